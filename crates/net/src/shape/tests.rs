//! Against the kernel, in namespaces of their own: what passes is measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::testing::{alone, peer};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const RATE: u64 = 20_000_000;
const SENT: usize = 4 << 20;

/// How many bits per second arrive.
fn measure(sender: TcpStream, mut receiver: TcpStream) -> f64 {
    let sending = std::thread::spawn(move || {
        let mut sender = sender;
        sender.write_all(&vec![0; SENT]).unwrap();
    });
    let since = Instant::now();
    let mut buffer = vec![0; 1 << 16];
    let mut seen = 0;
    while seen < SENT {
        seen += receiver.read(&mut buffer).unwrap();
    }
    let seconds = since.elapsed().as_secs_f64();
    sending.join().unwrap();
    seen as f64 * 8.0 / seconds
}

/// Both directions between this namespace and a pod's, as bits per second: received, sent.
fn rates(limits: Limits) -> (f64, f64) {
    let pod = peer(HERE, THERE, "pod0", move |links| async move {
        apply(&links, "pod0", "ifbpod0", limits).await.unwrap();
        // As it is when a runtime does it again.
        apply(&links, "pod0", "ifbpod0", limits).await.unwrap();
    });
    let listener = pod.run(move || TcpListener::bind((THERE, 0)).unwrap());
    let here = TcpStream::connect((THERE, listener.local_addr().unwrap().port())).unwrap();
    let (there, _) = listener.accept().unwrap();
    let received = measure(here.try_clone().unwrap(), there.try_clone().unwrap());
    (received, measure(there, here))
}

fn assert_near(rate: f64) {
    // The first burst passes at once; a loaded machine is slower, never faster.
    let wanted = RATE as f64;
    assert!(rate < wanted * 1.25 && rate > wanted * 0.3, "{rate}");
}

#[test]
fn a_pod_receives_no_faster_than_it_may() {
    alone(|| {
        let (received, sent) = rates(Limits { ingress: Some(Limit::of(RATE)), egress: None });
        assert_near(received);
        assert!(sent > 2.0 * RATE as f64, "{sent}");
    });
}

#[test]
fn a_pod_sends_no_faster_than_it_may() {
    alone(|| {
        let (received, sent) = rates(Limits { ingress: None, egress: Some(Limit::of(RATE)) });
        assert_near(sent);
        assert!(received > 2.0 * RATE as f64, "{received}");
    });
}

#[test]
fn buckets_hold_what_upstreams_hold() {
    let bucket = Limit { rate: 8_000_000, burst: Some(8_000_000) }.bucket();
    assert_eq!((bucket.rate, bucket.burst, bucket.limit), (1_000_000, 1_000_000, 1_025_000));
    let bucket = Limit::of(1000).bucket();
    assert_eq!((bucket.rate, bucket.burst), (125, 32 * 1024));
    let huge = Limit { rate: 1_000_000_000_000_000, burst: Some(u64::MAX) }.bucket();
    assert_eq!((huge.rate, huge.burst, huge.limit), (125_000_000_000_000, u32::MAX, u32::MAX));
}
