//! Against the kernel, in namespaces of their own: what `nft` lists is what was meant, and connections arrive.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::services::plan::{Local, plan};

fn objects(
    ports: &[u16],
) -> (k8s_openapi::api::core::v1::Service, Vec<k8s_openapi::api::discovery::v1::EndpointSlice>) {
    let service = serde_json::json!({"metadata": {"name": "web", "namespace": "n"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "protocol": "TCP"}]}});
    let slices = ports.iter().map(|port| {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": port.to_string(), "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        }))
        .unwrap()
    });
    (serde_json::from_value(service).unwrap(), slices.collect())
}

fn tables(ports: &[u16]) -> Tables {
    let (service, slices) = objects(ports);
    plan([&service].into_iter(), slices.iter(), &Local::default())
}

/// Runs a test on a thread with a network namespace of its own, which ends with it.
fn alone(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make namespaces");
        return;
    }
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let links = crate::link::Links::open().unwrap();
            links.up("lo").await.unwrap();
            links.address("lo", Ipv4Addr::new(172, 31, 0, 1), 32).await.unwrap();
            links.route_link(Ipv4Addr::new(10, 96, 0, 0), 16, "lo").await.unwrap();
            // What is masqueraded gets an address that others could answer to, of whatever link.
            links.bridge("others").await.unwrap();
            links.address("others", Ipv4Addr::new(172, 31, 1, 1), 24).await.unwrap();
        });
        test();
    })
    .join()
    .unwrap();
}

fn listed() -> String {
    let output = Command::new("nft").args(["list", "table", "ip", "knarr"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let address = std::net::SocketAddr::from(([10, 96, 0, 9], port));
    TcpStream::connect_timeout(&address, Duration::from_secs(3))
}

#[test]
fn connections_reach_every_endpoint_and_follow_changes() {
    alone(|| {
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let mut table = Table::open("knarr", (u32::from(Ipv4Addr::new(10, 244, 0, 0)), 16)).unwrap();
        table.apply(&tables(&ports)).unwrap();
        let text = listed();
        for expected in [
            "goto n3",
            "numgen random mod 3 map @endpoints",
            "ip daddr . meta l4proto . th dport vmap @svc-ips",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        let mut reached = [0; 3];
        for _ in 0..60 {
            let _held = connect(80).unwrap();
            for (count, listener) in reached.iter_mut().zip(&listeners) {
                *count += usize::from(listener.accept().is_ok());
            }
        }
        assert!(reached.iter().all(|&count| count > 3), "{reached:?}");
        // One endpoint goes: only the others are reached.
        table.apply(&tables(&ports[..1])).unwrap();
        for _ in 0..5 {
            let _held = connect(80).unwrap();
            assert!(listeners[0].accept().is_ok());
        }
        // All go: nobody is reached, and the address is among those that are refused.
        table.apply(&tables(&[])).unwrap();
        assert!(listed().contains("elements = { 10.96.0.9 . tcp . 80 }"));
        let since = std::time::Instant::now();
        for port in [80, 81] {
            // More often than the kernel would say so by ICMP.
            for _ in 0..20 {
                assert_eq!(
                    connect(port).unwrap_err().kind(),
                    std::io::ErrorKind::ConnectionRefused,
                    "{port}"
                );
            }
        }
        assert!(since.elapsed() < Duration::from_secs(2));
        table.remove().unwrap();
    });
}

#[test]
fn a_refused_transaction_changes_nothing_and_is_written_anew() {
    alone(|| {
        let mut table = Table::open("knarr", (0, 8)).unwrap();
        table.apply(&tables(&[1000])).unwrap();
        let before = listed();
        // What the kernel holds is no longer what is believed.
        let mut wrong = tables(&[1000]);
        wrong
            .services
            .insert(Element { key: vec![9; 12], value: crate::nft::Verdict::Goto("n1".to_owned()) });
        table.now = Some(wrong);
        assert!(table.apply(&tables(&[2000])).is_err());
        assert_eq!(listed(), before);
        table.apply(&tables(&[2000])).unwrap();
        assert_ne!(listed(), before);
        table.remove().unwrap();
    });
}

#[test]
fn those_of_other_nodes_answer_a_nodes_own_calls_and_silence_the_others() {
    alone(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut service, slices) = objects(&[listener.local_addr().unwrap().port()]);
        // Nobody is on this node.
        let spec = service.spec.as_mut().unwrap();
        spec.internal_traffic_policy = Some("Local".to_owned());
        spec.external_traffic_policy = Some("Local".to_owned());
        spec.ports.as_mut().unwrap()[0].node_port = Some(30080);
        let local = Local { node: "a".to_owned(), addresses: vec![Ipv4Addr::new(172, 31, 0, 1)] };
        let mut table = Table::open("knarr", (u32::from(Ipv4Addr::new(10, 244, 0, 0)), 16)).unwrap();
        table.apply(&plan([&service].into_iter(), slices.iter(), &local)).unwrap();
        let text = listed();
        for expected in
            ["vmap @near", "numgen random mod 1 offset 1048576", "fib saddr type local masquerade"]
        {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let node_port = std::net::SocketAddr::from(([172, 31, 0, 1], 30080));
        drop(TcpStream::connect_timeout(&node_port, Duration::from_secs(3)).unwrap());
        let address = std::net::SocketAddr::from(([10, 96, 0, 9], 80));
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        table.remove().unwrap();
    });
}
