//! Against the kernel, in namespaces of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::ports::plan::Protocol;
use crate::shape::Limit;
use crate::testing::{Namespace, alone, block_on, peer};

#[test]
fn link_names_fit_the_kernel() {
    let name = link_name("0123456789abcdef");
    assert!(name.len() <= 14 && name != link_name("0123456789abcdee"));
}

fn wish(namespace: &Namespace, owner: &str) -> Wish {
    Wish {
        netns: namespace.path(),
        owner: owner.into(),
        interface: "eth0".into(),
        ports: Vec::new(),
        limits: Limits::default(),
    }
}

fn names() -> Vec<String> {
    block_on(async { Links::open().unwrap().names().await.unwrap() })
}

fn serve(namespace: &Namespace, at: IpAddr) {
    let listener = namespace.run(move || TcpListener::bind((at, 80)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = write!(stream, "{}", from.ip());
        }
    });
}

fn seen(to: IpAddr, port: u16) -> Option<String> {
    let to = SocketAddr::new(to, port);
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn pods_of_both_families_reach_each_other_and_the_nodes_ports_lead_to_them() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let links = PodLinks::new(dir.path().to_owned()).unwrap();
        // An address of its own, and no way out: that is a machine in a laboratory.
        let node = Ipv4Addr::new(10, 78, 0, 1);
        let _neighbour = peer(node, [10, 78, 0, 2].into(), "out0", |_| async {});
        let (one, two) = (Namespace::new(), Namespace::new());
        let early = block_on(links.setup(&wish(&one, "one"))).unwrap_err().to_string();
        assert_eq!(early, "the node has no pod network yet");
        links.set_cidr("10.9.1.0/24,fd00:9:1::/64").unwrap();
        let mut first = wish(&one, "one");
        first.ports = vec![HostPort { protocol: Protocol::Tcp, address: None, port: 8080, target: 80 }];
        first.limits = Limits { ingress: Some(Limit::of(1 << 30)), egress: Some(Limit::of(1 << 30)) };
        let ips = block_on(links.setup(&first)).unwrap();
        let texts: Vec<_> = ips.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.9.1.2", "fd00:9:1::2"]);
        assert_eq!(block_on(links.setup(&first)).unwrap(), ips);
        let others = block_on(links.setup(&wish(&two, "two"))).unwrap();
        block_on(links.check(&first)).unwrap();

        for (&ip, other) in ips.iter().zip(others) {
            serve(&one, ip);
            assert_eq!(two.run(|| seen(ip, 80)), Some(other.to_string()));
        }
        assert_eq!(seen(Ipv4Addr::LOCALHOST.into(), 8080), Some(node.to_string()));
        let local: Ipv6Addr = "fd00:77::1".parse().unwrap();
        block_on(async { Links::open().unwrap().address("lo", local, 128).await.unwrap() });
        let pod = two.run(|| seen(local.into(), 8080));
        assert_eq!(pod.as_deref(), Some("fd00:9:1::3"));

        // Another process knows all of it.
        let later = PodLinks::new(dir.path().to_owned()).unwrap();
        assert!(later.has_cidr());
        block_on(later.check(&first)).unwrap();
        block_on(later.keep(&["one".into()])).unwrap();
        assert!(block_on(later.check(&wish(&two, "two"))).unwrap_err().to_string().contains("no address"));
        block_on(later.teardown("one")).unwrap();
        block_on(later.teardown("one")).unwrap();
        assert_eq!(names(), ["lo", "out0"]);
        assert_eq!(seen(Ipv4Addr::LOCALHOST.into(), 8080), None);
    });
}

#[test]
fn what_is_missing_is_said() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let links = PodLinks::new(dir.path().to_owned()).unwrap();
        links.set_cidr("10.9.1.0/24").unwrap();
        let pod = Namespace::new();
        let wish = wish(&pod, "one");
        block_on(links.setup(&wish)).unwrap();
        block_on(async { Links::open().unwrap().remove(&link_name("one")).await.unwrap() });
        let error = block_on(links.check(&wish)).unwrap_err().to_string();
        assert_eq!(error, format!("there is no link {}", link_name("one")));
    });
}

#[test]
fn pods_that_go_at_once_take_their_links_and_nobody_elses_with_them() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let links = PodLinks::new(dir.path().to_owned()).unwrap();
        links.set_cidr("10.9.2.0/24").unwrap();
        let pods: Vec<_> = ["a", "b", "c", "d", "stays"].map(|owner| (owner, Namespace::new())).into();
        let _neighbour = peer([10, 79, 0, 1].into(), [10, 79, 0, 2].into(), "out0", |_| async {});
        for (owner, namespace) in &pods {
            block_on(links.setup(&wish(namespace, owner))).unwrap();
        }
        block_on(async {
            let (a, b) = futures::join!(links.teardown("a"), links.teardown("b"));
            let (c, d) = futures::join!(links.teardown("c"), links.teardown("d"));
            for gone in [a, b, c, d, links.teardown("never").await] {
                gone.unwrap();
            }
        });
        let mut left = names();
        left.retain(|name| name != "lo");
        left.sort();
        let mut wanted = [link_name("stays"), "out0".to_owned()];
        wanted.sort();
        assert_eq!(left, wanted);
    });
}
