use std::net::{IpAddr, UdpSocket};

use http::Method;
use serde_json::json;
use testkit::Cluster;
use testkit::http::Call;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{PODS, account, pod};

/// An address of this machine that is no loopback, which the API server would not call; nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// A server that answers each request with its first line, and sends who asks for `/old` elsewhere.
async fn serve(ip: IpAddr) -> u16 {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
            if line.contains("/page") {
                let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
                let whom =
                    head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: ")).unwrap_or("nobody");
                let page = format!("<a href='/x'><!-- for {whom} -->");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                    page.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            let status = if line.contains("/old") { "301 Moved\r\nLocation: /new?x=1" } else { "200 OK" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{line}",
                line.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_reach_pods_through_the_api_server() {
    let Some(ip) = own_address() else { return };
    let cluster = Cluster::start().await;
    let client = &cluster.tls(0).await;
    account(client, "default").await;
    let port = serve(ip).await;
    let ports = json!([{"containerPort": port}]);
    let containers = json!([{"name": "c", "image": "i", "ports": ports}]);
    let _ = Call::post(PODS, &pod("a", json!({"nodeName": "n", "containers": containers})))
        .send(client)
        .await
        .expect(201);
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    let _ = Call::patch(format!("{PODS}/a/status"), &status).send(client).await.expect(200);
    for (method, path, line) in [
        (Method::GET, format!("a:{port}/proxy/x/y?z=1"), "GET /x/y?z=1 HTTP/1.1"),
        (Method::GET, "a/proxy/".to_owned(), "GET / HTTP/1.1"),
        (Method::POST, format!("http:a:{port}/proxy/x"), "POST /x HTTP/1.1"),
        (Method::DELETE, "a/proxy/x/".to_owned(), "DELETE /x/ HTTP/1.1"),
        (Method::OPTIONS, "a/proxy/x".to_owned(), "OPTIONS /x HTTP/1.1"),
    ] {
        let answer = Call::new(method, format!("{PODS}/{path}")).send(client).await.expect(200);
        assert_eq!(String::from_utf8_lossy(&answer.body), line, "{path}");
    }
    let moved = Call::get(format!("{PODS}/a/proxy/old")).send(client).await.expect(301);
    assert_eq!(moved.headers[http::header::LOCATION], format!("{PODS}/a/proxy/new?x=1"));
    let page = Call::get(format!("{PODS}/a/proxy/page")).header("x-forwarded-for", "192.0.2.7");
    let page = page.send(client).await.expect(200);
    let text = String::from_utf8_lossy(&page.body);
    assert!(text.contains(&format!("<a href=\"{PODS}/a/proxy/x\">")), "{text}");
    assert!(text.contains("<!-- for 192.0.2.7, 127.0.0.1 -->"), "{text}");
    assert!(!page.headers.contains_key(http::header::ACCESS_CONTROL_ALLOW_ORIGIN), "{:?}", page.headers);
    let refused = Call::get(format!("{PODS}/ftp:a:{port}/proxy/")).send(client).await.expect(400).message();
    assert_eq!(refused, format!("invalid pod request \"ftp:a:{port}\""));
    nobody_there(client).await;
}

/// What kubelets are asked for when there is none, or none that answers.
async fn nobody_there(client: &kube::Client) {
    let _ = Call::post(PODS, &pod("waits", json!({}))).send(client).await.expect(201);
    let nothing = Call::get(format!("{PODS}/waits/log")).send(client).await.expect(204);
    assert!(nothing.body.is_empty(), "what runs nowhere has said nothing");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    let _ = Call::post("/api/v1/nodes", &node).send(client).await.expect(201);
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": closed}},
    }});
    let _ = Call::patch("/api/v1/nodes/n/status", &status).send(client).await.expect(200);
    let dial = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
    for (path, code, told) in [
        (
            "a/log?tailLines=1&follow=0",
            500,
            format!("Get \"https://127.0.0.1:{closed}/containerLogs/default/a/c?tailLines=1\": {dial}"),
        ),
        ("a/log?tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()),
        ("a/exec?command=true&stdout=true", 400, "Upgrade request required".to_owned()),
        ("waits/exec?command=true", 400, "pod waits does not have a host assigned".to_owned()),
    ] {
        let answer = Call::get(format!("{PODS}/{path}")).send(client).await.expect(code);
        assert_eq!(answer.message(), told, "{path}");
    }
}
