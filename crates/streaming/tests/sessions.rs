//! Whole sessions over real HTTP upgrades on loopback.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use streaming::remotecommand::{self, Options, Outcome, TerminalSize};
use streaming::{Upgraded, portforward, proxy, spdy, websocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Serves every connection to a fresh port with one function.
async fn serve<F, R>(handler: F) -> String
where
    F: Fn(Request<Incoming>) -> R + Copy + Send + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                service_fn(move |request| async move { Ok::<_, Infallible>(handler(request).await) });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades(),
            );
        }
    });
    address
}

/// Copies stdin to stdout, says the first size on stderr, and exits with 3.
async fn cat(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let options = Options { stdin: true, stdout: true, stderr: true, tty: false };
    let (response, session) = match remotecommand::accept(request, options) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    tokio::spawn(async move {
        let mut session = session.await.unwrap();
        let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
        tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
        drop(stdout);
        if let Ok(size) = session.resize.try_recv() {
            let text = format!("{}x{}", size.width, size.height);
            session.stderr.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
        }
        session.finish(Outcome::Exited(3)).await;
    });
    response
}

async fn upgrade(address: &str, headers: &[(&str, &str)]) -> Upgraded {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder().uri("/").header("host", "x").header("connection", "Upgrade");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

const WEBSOCKET: [(&str, &str); 3] = [
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

async fn websocket(address: &str, protocol: &str) -> Upgraded {
    let mut headers = WEBSOCKET.to_vec();
    headers.push(("sec-websocket-protocol", protocol));
    upgrade(address, &headers).await
}

async fn check_cat(address: &str) {
    let mut session = remotecommand::client(websocket(address, "v5.channel.k8s.io").await).await;
    let sent = "0123456789".repeat(30_000);
    session.resize.send(TerminalSize { width: 80, height: 24 }).await.unwrap();
    let mut stdin = session.stdin;
    let body = sent.clone();
    // The size must not be overtaken by the end of the input.
    tokio::spawn(async move {
        stdin.write_all(body.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
        std::future::pending::<()>().await;
    });
    let (mut out, mut err) = (String::new(), String::new());
    session.stdout.read_to_string(&mut out).await.unwrap();
    session.stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!(out.len(), sent.len());
    assert_eq!(err, "80x24");
    assert_eq!(session.outcome.await.unwrap(), Outcome::Exited(3));
}

#[tokio::test]
async fn exec_over_websocket_v5_closes_stdin_and_brings_the_exit_code() {
    let address = serve(cat).await;
    tokio::time::timeout(Duration::from_secs(20), check_cat(&address)).await.unwrap();
}

#[tokio::test]
async fn exec_through_a_proxy_is_the_same() {
    let backend = serve(cat).await;
    // The proxy's handler has to be a plain function: it learns its backend from a header's value.
    let address = serve(|request: Request<Incoming>| async move {
        let backend = request.headers().get("x-backend").unwrap().to_str().unwrap().to_owned();
        let io = TcpStream::connect(&backend).await.unwrap();
        proxy::forward_upgrade(request, io, "backend", "/exec").await.unwrap()
    })
    .await;
    let mut headers = WEBSOCKET.to_vec();
    headers.extend([("sec-websocket-protocol", "v5.channel.k8s.io"), ("x-backend", backend.as_str())]);
    let mut session = remotecommand::client(upgrade(&address, &headers).await).await;
    session.stdin.write_all(b"hi").await.unwrap();
    session.stdin.shutdown().await.unwrap();
    let mut out = String::new();
    session.stdout.read_to_string(&mut out).await.unwrap();
    assert_eq!((out.as_str(), session.outcome.await.unwrap()), ("hi", Outcome::Exited(3)));
}

#[tokio::test]
async fn exec_over_spdy_v4_brings_a_status() {
    let address = serve(cat).await;
    let io =
        upgrade(&address, &[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4.channel.k8s.io")])
            .await;
    let session = spdy::Session::client(io);
    let open = |kind: &str| session.open(vec![("streamType".to_owned(), kind.to_owned())]);
    let mut error = open("error").await.unwrap();
    let mut stdin = open("stdin").await.unwrap();
    let mut stdout = open("stdout").await.unwrap();
    let _stderr = open("stderr").await.unwrap();
    stdin.io().write_all(b"over spdy").await.unwrap();
    stdin.io().shutdown().await.unwrap();
    let mut out = String::new();
    stdout.io().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "over spdy");
    let mut status = Vec::new();
    error.io().read_to_end(&mut status).await.unwrap();
    assert_eq!(Outcome::from_status(&status), Outcome::Exited(3));
}

/// Says the port on each connection, and that it is odd where it is.
async fn ports(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (response, forwards) = match portforward::accept(request, &[80, 8081]) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    tokio::spawn(async move {
        let mut forwards = forwards.await.unwrap();
        while let Some(mut forward) = forwards.next().await {
            let mut asked = [0; 4];
            forward.data.read_exact(&mut asked).await.unwrap();
            forward
                .data
                .write_all(format!("{} {}", forward.port, asked.escape_ascii()).as_bytes())
                .await
                .unwrap();
            let error = (forward.port % 2 == 1).then(|| "odd".to_owned());
            forward.finish(error).await;
        }
    });
    response
}

#[tokio::test]
async fn port_forward_over_spdy_inside_a_websocket() {
    let address = serve(ports).await;
    let mut forwarder =
        portforward::Forwarder::over_websocket(websocket(&address, portforward::WEBSOCKET_PROTOCOL).await)
            .await;
    for (port, error) in [(80, ""), (8081, "odd")] {
        let (mut data, mut errors) = forwarder.open(port).await.unwrap();
        data.write_all(b"ping").await.unwrap();
        let (mut text, mut told) = (String::new(), String::new());
        data.read_to_string(&mut text).await.unwrap();
        errors.read_to_string(&mut told).await.unwrap();
        assert_eq!((text, told.as_str()), (format!("{port} ping"), error));
    }
}

#[tokio::test]
async fn port_forward_as_channels_of_a_websocket() {
    let address = serve(ports).await;
    let io = websocket(&address, "v4.channel.k8s.io").await;
    let mut socket = websocket::wrap(io, Role::Client).await;
    for channel in [0, 2] {
        socket.send(Message::Binary(Bytes::from(vec![channel, b'p', b'i', b'n', b'g']))).await.unwrap();
    }
    let mut channels = [const { Vec::new() }; 4];
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Message::Close(frame) => break assert_eq!(frame.unwrap().code, CloseCode::Normal),
            other => panic!("{other:?}"),
        }
    }
    let port = |low, high, text: &[u8]| [&[low, high], text].concat();
    assert_eq!(
        channels,
        [port(80, 0, b"80 ping"), port(80, 0, b""), port(0x91, 0x1f, b"8081 ping"), port(0x91, 0x1f, b"odd")]
    );
}

#[tokio::test]
async fn port_forward_as_channels_in_base64() {
    let address = serve(ports).await;
    let io = websocket(&address, "v4.base64.channel.k8s.io").await;
    let mut socket = websocket::wrap(io, Role::Client).await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("0UAA="));
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1UAA="));
}

#[tokio::test]
async fn a_protocol_that_nobody_speaks_is_refused() {
    let address = serve(cat).await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .header("host", "x")
        .header("connection", "upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "v9.channel.k8s.io")
        .body(Empty::<Bytes>::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 403);
}
