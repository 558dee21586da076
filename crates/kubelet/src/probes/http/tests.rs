use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, HTTPHeader};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::gates::Gates;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that answers requests for paths, and holds its tongue at any other; its port, and what was said to it.
async fn server(pages: &'static [(&'static str, &'static str)]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let said = heard.clone();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).await.unwrap();
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let page = pages.iter().find(|(path, _)| request.starts_with(&format!("GET {path} ")));
            said.lock().push(request);
            match page {
                Some((_, answer)) => {
                    stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await.unwrap()
                }
                None => silent.push(stream),
            }
        }
    });
    (port, heard)
}

async fn asked(path: &str, port: u16) -> Answer {
    let header = |name: &str, value: &str| HTTPHeader { name: name.to_owned(), value: value.to_owned() };
    let action = HTTPGetAction {
        http_headers: Some(vec![header("Host", "web.example"), header("Accept", "")]),
        port: IntOrString::Int(i32::from(port)),
        path: Some(path.to_owned()),
        ..HTTPGetAction::default()
    };
    let container = Container::default();
    let target = Target { id: "", ip: "127.0.0.1", container: &container, gates: Gates::default() };
    probe(&action, &target, Duration::from_millis(300)).await
}

fn failure(why: String) -> Answer {
    Answer::Failure(why)
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host() {
    let (port, heard) = server(&[
        ("/here", "HTTP/1.1 302 Found\r\nlocation: /there?x=y\r\ncontent-length: 0\r\n\r\n"),
        ("/there?x=y", "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:PORT/bad\r\n\r\n"),
        ("/bad", "HTTP/1.1 500 Bad\r\n\r\nno"),
        ("/away", "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 5\r\n\r\nleave"),
        ("/nowhere", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("/round", "HTTP/1.1 307 Again\r\nlocation: round\r\ncontent-length: 0\r\n\r\n"),
    ])
    .await;
    assert_eq!(asked("/here", port).await, failure("HTTP probe failed with statuscode: 500".to_owned()));
    let heard = std::mem::take(&mut *heard.lock());
    let host = |index: usize, name: &str| heard[index].contains(&format!("host: {name}\r\n"));
    let own = format!("127.0.0.1:{port}");
    assert!(host(0, "web.example") && host(1, "web.example") && host(2, &own), "{heard:?}");
    assert!(heard[0].contains("user-agent: kube-probe/") && !heard[0].contains("accept:"), "{heard:?}");
    let warning = |body: &str| Answer::Warning(format!("Probe terminated redirects, Response body: {body}"));
    assert_eq!(asked("/away", port).await, warning("leave"));
    assert_eq!(asked("/nowhere", port).await, warning(""));
    let round = format!("Get \"http://{own}/round\": stopped after 10 redirects");
    assert_eq!(asked("/round", port).await, failure(round));
}

#[tokio::test]
async fn silence_is_a_failure_at_its_time_and_a_long_answer_none() {
    let long: &'static str = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(3 * SHOWN)).leak();
    let pages = [
        ("/long", long),
        ("/short", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"),
        ("/no", ""),
        ("/odd", "what?\r\n"),
    ];
    let (port, _) = server(Box::leak(Box::new(pages))).await;
    assert_eq!(asked("/long", port).await, Answer::Success);
    let silent = format!("Get \"http://127.0.0.1:{port}/silent\": {NO_HEADERS}");
    assert_eq!(asked("/silent", port).await, failure(silent));
    let broken = Answer::Error { state: "failure", why: "unexpected EOF".to_owned() };
    assert_eq!(asked("/short", port).await, broken);
    assert_eq!(asked("/no", port).await, failure(format!("Get \"http://127.0.0.1:{port}/no\": EOF")));
    let Answer::Failure(why) = asked("/odd", port).await else { panic!("that is no HTTP") };
    assert!(why.contains("malformed HTTP response"), "{why}");
    assert_eq!(asked("/", 0).await, Answer::unknown("invalid port number: 0"));
}

/// What a server of HTTP/2 answers, each request in a line: version, host and path.
async fn second_server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let said = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let said = said.clone();
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let host = request.uri().authority().map_or("", |authority| authority.as_str());
                let fixed =
                    request.headers().contains_key("host") || request.headers().contains_key("connection");
                assert!(!fixed, "{request:?}");
                said.lock().push(format!("{:?} {host} {}", request.version(), request.uri().path()));
                let response = match request.uri().path() {
                    "/to" => http::Response::builder().status(302).header("location", "/well"),
                    "/well" => http::Response::builder(),
                    _ => http::Response::builder().status(503),
                };
                async move { response.body(Empty::<Bytes>::new()) }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    (port, heard)
}

#[tokio::test]
async fn the_second_version_is_spoken_where_the_feature_is_on() {
    let (port, heard) = second_server().await;
    let container = Container::default();
    let ask = async |path: &str, gates| {
        let header = HTTPHeader { name: "Host".to_owned(), value: "web.example".to_owned() };
        let action = HTTPGetAction {
            http_headers: Some(vec![header]),
            port: IntOrString::Int(i32::from(port)),
            path: Some(path.to_owned()),
            protocol: Some("HTTP2".to_owned()),
            ..HTTPGetAction::default()
        };
        let target = Target { id: "", ip: "127.0.0.1", container: &container, gates };
        probe(&action, &target, Duration::from_secs(5)).await
    };
    let said = [("H2CContainerProbe".to_owned(), true)];
    let on = Gates::new(&said.into()).unwrap();
    assert_eq!(ask("/to", on).await, Answer::Success);
    assert_eq!(*heard.lock(), ["HTTP/2.0 web.example /to", "HTTP/2.0 web.example /well"]);
    assert_eq!(ask("/bad", on).await, failure("HTTP probe failed with statuscode: 503".to_owned()));
    assert!(matches!(ask("/well", Gates::default()).await, Answer::Failure(_)), "it is asked in the first");
    assert_eq!(heard.lock().len(), 3);
}
