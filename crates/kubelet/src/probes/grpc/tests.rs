use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

/// The port of a server that answers each service by what it is called: a number is its status, `code N` an error,
/// `slow` never ends.
async fn server() -> i32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream);
        }
    });
    i32::from(port)
}

fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
    tokio::spawn(serving);
}

/// The same behind a certificate that nobody vouches for.
async fn secret_server() -> i32 {
    let own = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                serve(stream);
            }
        }
    });
    i32::from(port)
}

#[tokio::test]
async fn whoever_serves_behind_a_certificate_is_asked_behind_it() {
    let (open, secret) = (server().await, secret_server().await);
    let ask = async |port, by_tls| ask(("127.0.0.1", port), "1", by_tls, Duration::from_secs(2)).await;
    assert_eq!(ask(secret, true).await, Answer::Success);
    for (port, by_tls) in [(secret, false), (open, true)] {
        assert!(matches!(ask(port, by_tls).await, Answer::Failure(why) if why.contains("failed to connect")));
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["user-agent"].to_str().unwrap().split('/').next(), Some("kube-probe"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let service = HealthCheckRequest::decode(&body[5..]).unwrap().service;
    let response = http::Response::builder().header("content-type", "application/grpc");
    if service == "slow" {
        std::future::pending::<()>().await;
    }
    if let Some(code) = service.strip_prefix("code ") {
        let response = response.header("grpc-status", code).header("grpc-message", "told so");
        return Ok(response.body(Full::default().boxed()).unwrap());
    }
    let message = HealthCheckResponse { status: service.parse().unwrap() }.encode_to_vec();
    let head = [0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let body =
        Full::from([&head[..], &message].concat()).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(response.body(body.boxed()).unwrap())
}

fn failure(why: &str) -> Answer {
    Answer::Failure(why.to_owned())
}

#[tokio::test]
async fn whoever_serves_is_healthy_and_others_are_told_of_in_upstreams_words() {
    let port = server().await;
    for (service, answer) in [
        ("1", Answer::Success),
        ("0", failure("service unhealthy (responded with \"UNKNOWN\")")),
        ("2", failure("service unhealthy (responded with \"NOT_SERVING\")")),
        ("3", failure("service unhealthy (responded with \"SERVICE_UNKNOWN\")")),
        ("7", failure("service unhealthy (responded with \"7\")")),
        ("code 1", failure("error: health rpc probe failed: rpc error: code = Canceled desc = told so")),
        ("code 4", failure("timeout: health rpc did not complete within 1m5s")),
        ("code 5", failure("error: health rpc probe failed: rpc error: code = NotFound desc = told so")),
        (
            "code 12",
            failure(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): told so",
            ),
        ),
    ] {
        assert_eq!(
            ask(("127.0.0.1", port), service, false, Duration::from_secs(65)).await,
            answer,
            "{service}"
        );
    }
    let late = failure("timeout: health rpc did not complete within 1s");
    assert_eq!(ask(("127.0.0.1", port), "slow", false, Duration::from_secs(1)).await, late);
}

#[tokio::test]
async fn whoever_does_not_greet_is_not_connected_to() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut streams = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(said).await.unwrap();
                // One hangs up, the other holds its tongue.
                if said.is_empty() {
                    streams.push(stream);
                }
            }
        });
        let why = format!(
            "timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded"
        );
        let asked = ask(("127.0.0.1", i32::from(port)), "1", false, Duration::from_secs(1)).await;
        assert_eq!(asked, failure(&why));
    }
}
