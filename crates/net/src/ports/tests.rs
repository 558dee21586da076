//! Against the kernel, in namespaces of their own: connections arrive, and are seen to come from where they do.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::plan::{HostPort, Protocol};
use super::*;
use crate::link::sysctl;
use crate::testing::{Namespace, alone, peer};

const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const POD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);

fn record(owner: &str, port: u16, protocol: Protocol, address: Option<IpAddr>) -> Record {
    let ports = vec![HostPort { protocol, address, port, target: 80 }];
    Record { owner: owner.into(), ips: vec![POD.into()], ports }
}

/// A pod whose server says to each client where it comes from, and a machine outside.
fn node() -> (Namespace, Namespace) {
    let pod = peer(NODE, POD, "pod0", |_| async {});
    let outside = peer(Ipv4Addr::new(10, 78, 0, 1), OUTSIDE, "out0", |_| async {});
    sysctl("ip_forward", "1").unwrap();
    sysctl("conf/pod0/route_localnet", "1").unwrap();
    let route = |gateway: Ipv4Addr| async move {
        let links = crate::link::Links::open().unwrap();
        links.up("lo").await.unwrap();
        links.route_via(Ipv4Addr::UNSPECIFIED, 0, gateway, None).await.unwrap();
    };
    pod.run(|| crate::testing::block_on(route(NODE)));
    outside.run(|| crate::testing::block_on(route(Ipv4Addr::new(10, 78, 0, 1))));
    let listener = pod.run(|| TcpListener::bind((POD, 80)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = write!(stream, "{}", from.ip());
        }
    });
    (pod, outside)
}

fn seen(to: impl Into<IpAddr>, port: u16) -> Option<String> {
    let to = SocketAddr::new(to.into(), port);
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn clients_reach_the_pod_and_are_seen_as_they_are() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let ports = HostPorts::new(dir.path().join("ports"), "knarr-test".into());
        let (pod, outside) = node();
        ports.close("a").unwrap();
        ports.open(&record("a", 8080, Protocol::Tcp, None)).unwrap();
        ports.open(&record("a", 8080, Protocol::Tcp, None)).unwrap();
        let error = ports.open(&record("b", 8080, Protocol::Tcp, None)).unwrap_err().to_string();
        assert_eq!(error, "host port 8080/Tcp is taken by sandbox a");

        assert_eq!(outside.run(|| seen(NODE, 8080)), Some(OUTSIDE.to_string()));
        assert_eq!(seen(NODE, 8080), Some(NODE.to_string()));
        assert_eq!(seen(Ipv4Addr::LOCALHOST, 8080), Some(NODE.to_string()));
        // The pod meets itself by way of the node.
        assert_eq!(pod.run(|| seen(NODE, 8080)), Some(NODE.to_string()));
        // Another machine's port of the same number is none of ours.
        let other = outside.run(|| TcpListener::bind((OUTSIDE, 8080)).unwrap());
        assert!(seen_by(&other, || TcpStream::connect((OUTSIDE, 8080)).unwrap()));

        // A later process finds it as it was, though it may have been killed at any time.
        let later = HostPorts::new(dir.path().join("ports"), "knarr-test".into());
        later.keep(|owner| owner == "a").unwrap();
        assert_eq!(outside.run(|| seen(NODE, 8080)), Some(OUTSIDE.to_string()));
        later.keep(|_| false).unwrap();
        assert_eq!(outside.run(|| seen(NODE, 8080)), None);
        assert_eq!(later.of("a").unwrap(), None);
    });
}

fn seen_by(listener: &TcpListener, connect: impl FnOnce() -> TcpStream) -> bool {
    let stream = connect();
    let (_, from) = listener.accept().unwrap();
    from == stream.local_addr().unwrap()
}

#[test]
fn a_port_of_one_address_is_open_there_only() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let ports = HostPorts::new(dir.path().join("ports"), "knarr-test".into());
        let (pod, outside) = node();
        ports.open(&record("a", 8080, Protocol::Tcp, Some(NODE.into()))).unwrap();
        assert_eq!(outside.run(|| seen(NODE, 8080)), Some(OUTSIDE.to_string()));
        assert_eq!(outside.run(|| seen(Ipv4Addr::new(10, 78, 0, 1), 8080)), None);
        // What is for the loopback comes from nobody else.
        assert_eq!(pod.run(|| seen(Ipv4Addr::new(127, 1, 1, 1), 8080)), None);
    });
}

#[test]
fn datagrams_go_there_and_back() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let ports = HostPorts::new(dir.path().join("ports"), "knarr-test".into());
        let (pod, outside) = node();
        ports.open(&record("a", 53, Protocol::Udp, None)).unwrap();
        ports.open(&record("c", 5000, Protocol::Sctp, None)).unwrap();
        let server = pod.run(|| UdpSocket::bind((POD, 80)).unwrap());
        let client = outside.run(|| UdpSocket::bind((OUTSIDE, 0)).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        client.send_to(b"?", (NODE, 53)).unwrap();
        let mut buffer = [0; 8];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        server.send_to(b"!", from).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((length, from), (1, (NODE, 53).into()));
        // The same client reaches whoever has the port next.
        ports.close("a").unwrap();
        let mut next = record("b", 53, Protocol::Udp, None);
        next.ports[0].target = 81;
        ports.open(&next).unwrap();
        let server = pod.run(|| UdpSocket::bind((POD, 81)).unwrap());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"?", (NODE, 53)).unwrap();
        server.recv_from(&mut buffer).unwrap();
        let listed =
            std::process::Command::new("nft").args(["list", "map", "ip", "knarr-test", "any"]).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        assert!(listed.contains("sctp . 5000 : 10.77.0.2 . 80"), "{listed}");
    });
}
