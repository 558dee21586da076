use std::path::Path;

use bytes::Bytes;
use cri::v1::*;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use streaming::remotecommand::{self, ClientSession, Outcome, TerminalSize};
use streaming::{Upgraded, portforward};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{Node, eventually, texts};

async fn upgrade(url: &str, protocol: &str) -> Upgraded {
    let uri: http::Uri = url.parse().unwrap();
    let authority = uri.authority().unwrap().to_string();
    let stream = TcpStream::connect(&authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .uri(uri.path())
        .header("host", authority)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

async fn session(url: &str) -> ClientSession {
    remotecommand::client(upgrade(url, "v5.channel.k8s.io").await).await
}

async fn exec(node: &Node, id: &str, script: &str, tty: bool) -> ClientSession {
    session(&exec_url(node, id, script, tty).await).await
}

async fn exec_url(node: &Node, id: &str, script: &str, tty: bool) -> String {
    let request = ExecRequest {
        container_id: id.into(),
        cmd: vec!["sh".into(), "-c".into(), script.into()],
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    node.runtime.clone().exec(request).await.unwrap().into_inner().url
}

async fn attach(node: &Node, id: &str, tty: bool) -> ClientSession {
    let request = AttachRequest { container_id: id.into(), stdin: true, tty, stdout: true, stderr: !tty };
    session(&node.runtime.clone().attach(request).await.unwrap().into_inner().url).await
}

/// Reads until something was seen.
async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), wanted: &str) -> String {
    let mut all = Vec::new();
    loop {
        let mut buf = [0u8; 4096];
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read(&mut buf)).await;
        let n =
            read.unwrap_or_else(|_| panic!("no {wanted:?} in {:?}", String::from_utf8_lossy(&all))).unwrap();
        assert!(n > 0, "the end came before {wanted:?}: {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buf[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.contains(wanted) {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_stdin_and_its_end_brings_the_exit_code() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("exec-stream")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    let mut client = exec(&node, &id, "cat; echo done >&2; exit 12", false).await;
    let sent = "x".repeat(300_000);
    let body = sent.clone();
    tokio::spawn(async move {
        client.stdin.write_all(body.as_bytes()).await.unwrap();
        client.stdin.shutdown().await.unwrap();
    });
    let (mut out, mut err) = (String::new(), String::new());
    client.stdout.read_to_string(&mut out).await.unwrap();
    client.stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.len(), err.as_str()), (sent.len(), "done\n"));
    assert_eq!(client.outcome.await.unwrap(), Outcome::Exited(12));
    let failed = ExecRequest {
        container_id: id,
        cmd: vec!["nothing-here".into()],
        stdout: true,
        ..Default::default()
    };
    let url = node.runtime.exec(failed).await.unwrap().into_inner().url;
    let Outcome::Failed(text) = session(&url).await.outcome.await.unwrap() else { panic!("it ran") };
    assert!(text.contains("executable file not found"), "{text}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_stands_still_once_its_client_is_gone() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("flood")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    for (word, tty) in [("pipe", false), ("terminal", true)] {
        let script = format!("echo $$ > /tmp/{word}; exec yes {word}");
        let url = exec_url(&node, &id, &script, tty).await;
        let mut connection = upgrade(&url, "v5.channel.k8s.io").await;
        read_until(&mut connection, word).await;
        drop(connection);
        // Processor time, in ticks.
        let stat = format!("cut -d' ' -f14,15 /proc/$(cat /tmp/{word})/stat");
        let twice = || async {
            let before = node.output(&id, &stat).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            (before, node.output(&id, &stat).await)
        };
        let (ticks, _) = eventually("the flood to stop", twice, |(before, after)| before == after).await;
        assert!(!ticks.is_empty(), "it waits, and was not ended");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_that_changes() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("tty")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    let script = "read x; stty size; read y; stty size; exit 2";
    let mut client = exec(&node, &id, script, true).await;
    client.resize.send(TerminalSize { width: 80, height: 24 }).await.unwrap();
    let mut width = 80;
    for expected in ["24 80", "24 132"] {
        // The size and the input travel on different channels; typing waits for the size.
        let size = TerminalSize { width, height: 24 };
        client.resize.send(size).await.unwrap();
        let seen = eventually(
            "the size",
            || async { node.output(&id, "stty -F /dev/pts/0 size || true").await },
            |s| s == expected,
        )
        .await;
        assert_eq!(seen, expected);
        client.stdin.write_all(b"go\n").await.unwrap();
        read_until(&mut client.stdout, expected).await;
        width = 132;
    }
    assert_eq!(client.outcome.await.unwrap(), Outcome::Exited(2));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_clients_see_output_and_type_input() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("attach")).await;
    let mut config =
        Node::shell("c", "while read line; do echo got $line; echo err $line >&2; done; echo over; exit 8");
    config.stdin = true;
    config.stdin_once = true;
    let id = node.run(&pod, config).await;
    let mut first = attach(&node, &id, false).await;
    let mut second = attach(&node, &id, false).await;
    first.stdin.write_all(b"one\n").await.unwrap();
    read_until(&mut first.stdout, "got one").await;
    read_until(&mut first.stderr, "err one").await;
    // The second may have come after the first line, not after the second one.
    first.stdin.write_all(b"two\n").await.unwrap();
    read_until(&mut second.stdout, "got two").await;
    first.stdin.shutdown().await.unwrap();
    read_until(&mut first.stdout, "over").await;
    let status = node.wait_exited(&id).await;
    assert_eq!(status.exit_code, 8);
    assert!(texts(Path::new(&status.log_path)).contains("got two"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_all_leaves_a_container_that_hears_others() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("attach-open")).await;
    let mut config = Node::shell("c", "while read line; do echo got $line; [ $line = end ] && exit 3; done");
    config.stdin = true;
    let id = node.run(&pod, config).await;
    let mut first = attach(&node, &id, false).await;
    first.stdin.write_all(b"one\n").await.unwrap();
    read_until(&mut first.stdout, "got one").await;
    first.stdin.shutdown().await.unwrap();
    assert_eq!(first.outcome.await.unwrap(), Outcome::Exited(0));
    let mut second = attach(&node, &id, false).await;
    second.stdin.write_all(b"end\n").await.unwrap();
    read_until(&mut second.stdout, "got end").await;
    assert_eq!(node.wait_exited(&id).await.exit_code, 3);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_a_terminal_is_attached_and_survives_a_restart() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("attach-tty")).await;
    let mut config = Node::shell("c", "while read line; do echo got $line; [ $line = end ] && exit 3; done");
    config.tty = true;
    config.stdin = true;
    let id = node.run(&pod, config).await;
    let mut client = attach(&node, &id, true).await;
    client.stdin.write_all(b"one\n").await.unwrap();
    read_until(&mut client.stdout, "got one").await;
    node.restart().await;
    let mut client = attach(&node, &id, true).await;
    client.stdin.write_all(b"end\n").await.unwrap();
    read_until(&mut client.stdout, "got end").await;
    let status = node.wait_exited(&id).await;
    assert_eq!(status.exit_code, 3);
    let log = texts(Path::new(&status.log_path));
    assert!(log.contains("got one") && log.contains("got end"), "{log}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_of_a_pod_are_reached_over_its_loopback() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("ports")).await;
    let id = node.run(&pod, Node::shell("c", "echo up; nc -l -p 8080 -e cat; sleep 100")).await;
    let listening =
        || async { node.output(&id, "cat /proc/net/tcp /proc/net/tcp6 | grep -c ':1F90 ' || true").await };
    eventually("the listener", listening, |n| n != "0").await;
    let request = PortForwardRequest { pod_sandbox_id: pod.clone(), port: vec![8080] };
    let url = node.runtime.port_forward(request).await.unwrap().into_inner().url;
    let mut forwarder =
        portforward::Forwarder::over_websocket(upgrade(&url, portforward::WEBSOCKET_PROTOCOL).await).await;
    let (mut data, _error) = forwarder.open(8080).await.unwrap();
    data.write_all(b"echo me").await.unwrap();
    read_until(&mut data, "echo me").await;
    let (_data, mut error) = forwarder.open(81).await.unwrap();
    let text = read_until(&mut error, "refused").await;
    assert!(text.contains("error forwarding port 81"), "{text}");
    node.finish().await;
}
