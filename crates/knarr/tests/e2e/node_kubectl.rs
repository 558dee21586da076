//! What kubectl does with a running container.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::node_pods::nodes;

const PODS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: 'docker.io/library/busybox:test', command: [sh, -c, 'mkdir /www; echo the page > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www'], ports: [{name: http, containerPort: 8080}], readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: ticks, image: 'docker.io/library/busybox:test', command: [sh, -c, 'n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.2; done']}
  - {name: echoes, image: 'docker.io/library/busybox:test', stdin: true, command: [sh, -c, 'echo ready; while read line; do echo heard $line; done']}
";

#[test]
fn running_containers_are_at_hand() {
    let Some(cluster) = nodes("1") else { return };
    cluster.write("pods.yaml", PODS);
    cluster.k("apply -f pods.yaml");
    cluster
        .says("rollout status deployment/web --timeout=30s", &["deployment \"web\" successfully rolled out"]);
    cluster.k("wait --for=condition=Ready pod/two --timeout=30s");
    logs(&cluster);
    exec(&cluster);
    attach_and_run(&cluster);
    copy(&cluster);
    forward(&cluster);
    proxy(&cluster);
    sockets(&cluster);
    top(&cluster);
    drain(&cluster);
}

/// The API server passes requests on to pods and Services.
fn proxy(cluster: &Cluster) {
    let pod = cluster.k("get pod -l app=web -o jsonpath={.items[0].metadata.name}");
    for path in [
        format!("pods/{pod}/proxy/"),
        format!("pods/http:{pod}:8080/proxy/index.html"),
        "services/web:80/proxy/".to_owned(),
    ] {
        assert_eq!(
            cluster.k(&format!("get --raw /api/v1/namespaces/default/{path}")),
            "the page\n",
            "{path}"
        );
    }
}

/// Programs in browsers read logs and watches from WebSockets.
fn sockets(cluster: &Cluster) {
    let mut proxy = cluster.start("proxy --port=0");
    let line = proxy.until("Starting to serve on 127.0.0.1:");
    let port: u16 = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    let open = |path: &str, protocol: &str| socket(port, path, protocol);
    // Whatever is known will do: an etcd as old as distributions have it keeps upstream's server from telling more.
    let mut watch = open("pods?watch=true&resourceVersion=0", "");
    let (kind, text) = message(&mut watch);
    let event: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((kind, &event["type"], &event["object"]["kind"]), (1, &"ADDED".into(), &"Pod".into()));

    let path = "pods/two/log?container=echoes&tailLines=1";
    for (protocol, kind, expected) in
        [("binary.k8s.io", 2, "heard second\n"), ("base64.binary.k8s.io", 1, "aGVhcmQgc2Vjb25kCg==")]
    {
        let mut log = open(path, &format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
        assert_eq!(message(&mut log), (kind, Vec::new()), "{protocol}: it says that it begins");
        assert_eq!(message(&mut log), (kind, expected.as_bytes().to_vec()), "{protocol}");
        assert_eq!(message(&mut log).0, 8, "{protocol}: it ends");
    }
}

/// A WebSocket for a path in the namespace, by `kubectl proxy`.
fn socket(proxy: u16, path: &str, protocol: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Browsers say where they are from, and upstream's server wants to know for a watch.
    let request = format!(
        "GET /api/v1/namespaces/default/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Origin: http://localhost\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         {protocol}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
    stream
}

/// Ports are reached without SPDY, each by two channels: its data, and what went wrong.
fn channels(proxy: u16, pod: &str) {
    let path = format!("pods/{pod}/portforward?ports=8080,81");
    let mut stream = socket(proxy, &path, "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n");
    let request = b"\0GET /index.html HTTP/1.0\r\n\r\n";
    // A client's message has a mask; this one changes nothing.
    let frame = [&[0x82, 0x80 | u8::try_from(request.len()).unwrap(), 0, 0, 0, 0], &request[..]].concat();
    stream.get_mut().write_all(&frame).unwrap();
    let mut heard = [const { Vec::new() }; 4];
    let refused = |heard: &[u8]| String::from_utf8_lossy(heard).contains("onnection refused");
    while !(heard[0].ends_with(b"the page\n") && refused(&heard[3])) {
        let (kind, bytes) = message(&mut stream);
        assert_eq!(kind, 2, "{heard:?}");
        heard[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
    }
    assert!(
        heard
            .iter()
            .zip([8080_u16, 8080, 81, 81])
            .all(|(heard, port)| heard.starts_with(&port.to_le_bytes()))
    );
}

/// The next message that a server sends: its kind (RFC 6455, section 5.2) and what it says.
fn message(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut long = [0; 8];
    let length = match head[1] {
        126 => {
            stream.read_exact(&mut long[6..]).unwrap();
            u64::from_be_bytes(long)
        }
        127 => {
            stream.read_exact(&mut long).unwrap();
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    let mut text = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut text).unwrap();
    (head[0] & 0x0f, text)
}

/// What pods and nodes use: processor time since a moment ago, and memory.
fn top(cluster: &Cluster) {
    if crate::control_plane::wanted().is_some() {
        eprintln!("skipped: upstream's control plane needs an add-on for it");
        return;
    }
    let amount = |text: &str, unit: &str| -> Option<u64> { text.strip_suffix(unit)?.parse().ok() };
    let rows = |command: &str| -> Vec<Vec<String>> {
        let text = cluster.k(command);
        text.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let nodes = rows("top node");
    assert!(nodes.len() == 1 && amount(&nodes[0][3], "Mi").is_some_and(|used| used > 0), "{nodes:?}");
    let pods = rows("top pod -l app=two --containers");
    let names: Vec<&str> = pods.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(names, ["echoes", "ticks"], "{pods:?}");
    assert!(
        pods.iter().all(|row| amount(&row[2], "m").is_some() && amount(&row[3], "Mi").is_some()),
        "{pods:?}"
    );
    cluster.refuses("top pod nobody", "podmetrics.metrics.k8s.io \"default/nobody\" not found");
    let usage = cluster.k("get --raw /apis/metrics.k8s.io/v1beta1/namespaces/default/pods/two");
    let usage: serde_json::Value = serde_json::from_str(&usage).unwrap();
    assert_eq!(usage["kind"], "PodMetrics");
    assert!(usage["containers"][1]["usage"]["cpu"].as_str().unwrap().ends_with('n'), "{usage}");
    // Who asks for a resource by its short name means the kubelets' nodes, not what they use.
    cluster.says("get nodes", &["Ready"]);
}

fn logs(cluster: &Cluster) {
    cluster.says("logs deployment/web", &["serving\n"]);
    assert_eq!(cluster.k("logs -l app=web --prefix").split("] ").nth(1), Some("serving\n"));
    cluster.says("logs two", &["Defaulted container \"ticks\" out of: ticks, echoes", "tick 1\n"]);
    assert_eq!(cluster.k("logs two -c echoes"), "ready\n");
    cluster.shows("logs two -c ticks", "tick 5\n");
    assert_eq!(cluster.k("logs two -c ticks --tail=2").lines().count(), 2);
    assert!(cluster.k("logs two -c ticks --limit-bytes=6") == "tick 1");
    let stamped = cluster.k("logs two -c ticks --timestamps");
    let (stamp, tick) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert!(stamp.ends_with('Z') && stamp.len() > 20 && tick == "tick 1", "{stamped}");
    let since = cluster.k(&format!("logs two -c ticks --since-time={stamp}"));
    assert!(since.starts_with("tick "), "{since}");
    assert!(!cluster.k("logs two -c ticks --since=1s").contains("tick 1\n"));
    let mut follow = cluster.start("logs -f two -c ticks --tail=1");
    let first = follow.until("tick ");
    assert_ne!(follow.until("tick "), first);
    cluster
        .refuses("logs two -c nope", "error: container nope is not valid for pod two out of: ticks, echoes");
    cluster.refuses(
        "logs two -c ticks --previous",
        "previous terminated container \"ticks\" in pod \"two\" not found",
    );
}

fn exec(cluster: &Cluster) {
    assert_eq!(cluster.k("exec two -c echoes -- echo a b"), "a b\n");
    assert_eq!(cluster.k("exec deployment/web -- hostname").split('-').next(), Some("web"));
    assert_eq!(cluster.fed("exec -i two -c echoes -- cat", "through\n"), "through\n");
    let much = "0123456789abcdef".repeat(1 << 16);
    assert!(cluster.fed("exec -i two -c echoes -- cat", &much) == much, "a megabyte there and back");
    cluster.exits("exec two -c echoes -- sh -c 'exit 42'", 42, &["command terminated with exit code 42"]);
    cluster.exits("exec two -c echoes -- sh -c 'echo out; echo err >&2; false'", 1, &["out\n", "err\n"]);
    let absent = "executable file not found in $PATH";
    // CRI-O takes it for what the command said.
    let code = if crate::peer_runtime::is_crio() { 255 } else { 1 };
    cluster.exits("exec two -c echoes -- not-there", code, &[absent]);
    cluster.refuses("exec two -c nope -- ls", "error: container nope is not valid for pod two");
    cluster.refuses("exec nope -- ls", "pods \"nope\" not found");
    // `script` gives kubectl a terminal, as a user has one. Its size is told once the command runs.
    let typed = "stty rows 31 cols 97; exec kubectl exec -it two -c echoes -- sh -c 'tty; until s=$(stty size 2>/dev/null) && [ -n \"$s\" ]; do sleep 0.05; done; echo $s; read line; echo got $line'";
    let output = terminal(cluster, typed, "hello\n");
    assert!(
        output.contains("/dev/pts/") && output.contains("31 97") && output.contains("got hello"),
        "{output}"
    );
}

fn terminal(cluster: &Cluster, line: &str, input: &str) -> String {
    let line = line.replace("exec kubectl", &format!("exec {}", cluster.command().get_program().display()));
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("KUBECONFIG", cluster.kubeconfig()).env("SHELL", "/bin/sh");
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    let mut output = String::new();
    stdout.read_to_string(&mut output).unwrap();
    child.wait().unwrap();
    drop(stdin);
    output
}

fn attach_and_run(cluster: &Cluster) {
    let mut attached = cluster.start("attach -i two -c echoes");
    attached.input("first\n");
    attached.until("heard first");
    attached.input("second\n");
    attached.until("heard second");
    drop(attached);
    cluster.shows("logs two -c echoes", "heard second");

    let once = "run once --rm -i --restart=Never --image=docker.io/library/busybox:test -- cat";
    let output = cluster.fed(once, "piped in\n");
    assert!(output.contains("piped in\n") && output.contains("pod \"once\" deleted"), "{output}");
    cluster.refuses("get pod once", "NotFound");
    let shell =
        "exec kubectl run shell -it --rm --restart=Never --image=docker.io/library/busybox:test -- sh";
    let output = terminal(cluster, shell, "echo from $((40+2)) $(tty)\nexit\n");
    assert!(output.contains("from 42 /dev/pts/") && output.contains("pod \"shell\" deleted"), "{output}");
    let code = "run code --rm -i --restart=Never --image=docker.io/library/busybox:test -- sh -c 'exit 5'";
    cluster.exits(code, 5, &["terminated (Error)"]);
    cluster.becomes("get pod code --ignore-not-found -o name", "");
}

fn copy(cluster: &Cluster) {
    cluster.write("up.txt", "carried\n");
    cluster.k("cp up.txt two:/up.txt -c echoes");
    assert_eq!(cluster.k("exec two -c echoes -- cat /up.txt"), "carried\n");
    cluster.k("cp two:/up.txt back.txt -c echoes");
    assert_eq!(std::fs::read_to_string(cluster.dir().join("back.txt")).unwrap(), "carried\n");
}

fn forward(cluster: &Cluster) {
    let pod = cluster.k("get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    for (target, ports) in [
        (format!("pod/{pod}"), ":8080"),
        ("deployment/web".to_owned(), ":http"),
        ("service/web".to_owned(), ":80"),
    ] {
        let mut forward = cluster.start(&format!("port-forward {target} {ports}"));
        let line = forward.until("Forwarding from 127.0.0.1:");
        let port: u16 = line.split(':').nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            assert!(page.ends_with("the page\n"), "{target}: {page}");
        }
    }
    let mut proxy = cluster.start("proxy --port=0");
    let line = proxy.until("Starting to serve on 127.0.0.1:");
    channels(line.trim().rsplit(':').next().unwrap().parse().unwrap(), &pod);
    let mut nobody = cluster.start("port-forward pod/two :81");
    let port: u16 = nobody
        .until("Forwarding from 127.0.0.1:")
        .split(':')
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = stream.read(&mut [0]);
    nobody.until("onnection refused");
}

fn drain(cluster: &Cluster) {
    let node = cluster.k("get nodes -o jsonpath={.items[0].metadata.name}");
    let drained = cluster.k(&format!("drain {node} --ignore-daemonsets --force --timeout=40s"));
    assert!(
        drained.contains("pod/two evicted") && drained.contains(&format!("node/{node} drained")),
        "{drained}"
    );
    cluster.shows("get pods -l app=web", "Pending");
    cluster.k(&format!("uncordon {node}"));
    cluster.k("wait --for=condition=Available deployment/web --timeout=30s");
    let runtime = crate::peer_runtime::wanted().map_or("knarr", |program| program.name());
    let runtime = format!("Container Runtime Version:  {runtime}://");
    cluster.says(
        &format!("describe node {node}"),
        &["Ready            True", "KubeletReady", &runtime, "PodCIDR:"],
    );
}
