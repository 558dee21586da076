//! Against a real message bus, with a logind that is played.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::logind::Logind;
use crate::bus::daemon::Daemon;
use crate::bus::{Bus, Kind, Message, Value};

/// What logind does: it allows a delay of five seconds until it is told to read its configuration again.
struct Logind1 {
    bus: Bus,
    drop_in: PathBuf,
    micros: u64,
    /// Ends of what the inhibitors hold.
    locks: Vec<std::io::PipeReader>,
}

impl Logind1 {
    async fn start(daemon: &Daemon, drop_in: PathBuf) -> Self {
        let mut bus = Bus::connect(&daemon.socket).await.unwrap();
        for name in ["org.freedesktop.login1", "org.freedesktop.systemd1"] {
            let taken = bus.of_bus("RequestName", vec![Value::Text(name.to_owned()), Value::Uint32(0)]).await;
            assert_eq!(taken.unwrap().body, [Value::Uint32(1)]);
        }
        Self { bus, drop_in, micros: 5_000_000, locks: Vec::new() }
    }

    /// Answers so many calls.
    async fn answer(mut self, calls: usize) -> Self {
        let mut left = calls;
        while left > 0 {
            let call = self.bus.next().await.unwrap();
            if call.kind != Kind::Call {
                continue;
            }
            left -= 1;
            let mut fd = None;
            let body = match call.member.as_str() {
                "Get" => {
                    let value = match call.body.last() {
                        Some(Value::Text(name)) if name == "PreparingForShutdown" => Value::Bool(true),
                        _ => Value::Uint64(self.micros),
                    };
                    vec![Value::Variant(Box::new(value))]
                }
                "KillUnit" => {
                    assert_eq!(call.body.last(), Some(&Value::Int32(1)), "a SIGHUP");
                    let text = std::fs::read_to_string(&self.drop_in).unwrap();
                    let seconds = text.trim().rsplit_once("InhibitDelayMaxSec=").unwrap().1;
                    self.micros = seconds.parse::<u64>().unwrap() * 1_000_000;
                    vec![]
                }
                "Inhibit" => {
                    let words: Vec<_> = call.body.iter().collect();
                    assert_eq!(words.first(), Some(&&Value::Text("shutdown".to_owned())));
                    assert_eq!(words.last(), Some(&&Value::Text("delay".to_owned())));
                    let (reader, writer) = std::io::pipe().unwrap();
                    self.locks.push(reader);
                    fd = Some(OwnedFd::from(writer));
                    vec![Value::Fd(0)]
                }
                other => panic!("{other}"),
            };
            let reply = Message {
                reply_to: Some(call.serial),
                destination: call.sender,
                fds: u32::from(fd.is_some()),
                body,
                ..Message::new(Kind::Return, 0)
            };
            self.bus.send_with(reply, fd).await;
        }
        self
    }

    async fn prepare(&mut self, begins: bool) {
        let signal = Message {
            path: "/org/freedesktop/login1".to_owned(),
            interface: "org.freedesktop.login1.Manager".to_owned(),
            member: "PrepareForShutdown".to_owned(),
            body: vec![Value::Bool(begins)],
            ..Message::new(Kind::Signal, 0)
        };
        self.bus.send(signal).await.unwrap();
    }
}

#[tokio::test]
async fn a_shutdown_is_heard_of_and_held_back() {
    let dir = tempfile::tempdir().unwrap();
    let drop_in = dir.path().join("logind.conf.d/99-kubelet.conf");
    let daemon = Daemon::start(dir.path()).await;
    // The delay is asked for twice, and set once between.
    let played = tokio::spawn(Logind1::start(&daemon, drop_in.clone()).await.answer(5));
    let mut logind = Logind::connect(&daemon.socket).await.unwrap();
    assert!(logind.is_preparing().await.unwrap());
    logind.allow(Duration::from_secs(30), &drop_in).await.unwrap();
    let held = logind.inhibit().await.unwrap();
    let mut played = played.await.unwrap();

    played.prepare(true).await;
    assert!(logind.next().await.unwrap());
    let mut lock = played.locks.pop().unwrap();
    let ended = tokio::task::spawn_blocking(move || lock.read(&mut [0]).unwrap());
    assert!(!ended.is_finished(), "it is held back");
    drop(held);
    assert_eq!(ended.await.unwrap(), 0, "and let go");

    played.prepare(false).await;
    assert!(!logind.next().await.unwrap());
    let again = tokio::spawn(played.answer(1));
    logind.inhibit().await.unwrap();
    again.await.unwrap();
    drop(daemon);
    assert!(logind.next().await.is_err(), "the bus is gone");
}

#[tokio::test]
async fn a_delay_that_logind_does_not_take_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path()).await;
    // It reads another file than the one that is written.
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, "InhibitDelayMaxSec=7").unwrap();
    let played = tokio::spawn(Logind1::start(&daemon, elsewhere).await.answer(7));
    let mut logind = Logind::connect(&daemon.socket).await.unwrap();
    let error = logind.allow(Duration::from_secs(30), &dir.path().join("unread")).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("for 7s, and 30s are wanted: set InhibitDelayMaxSec"), "{said}");
    played.await.unwrap();
}

#[tokio::test]
async fn without_a_bus_or_without_logind_it_is_said_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let Err(error) = Logind::connect(&dir.path().join("none")).await else { panic!("there is no bus") };
    assert!(error.to_string().contains("none: No such file"), "{error}");
    let daemon = Daemon::start(dir.path()).await;
    let mut logind = Logind::connect(&daemon.socket).await.unwrap();
    let Err(error) = logind.inhibit().await else { panic!("nobody could") };
    assert!(error.to_string().contains("ServiceUnknown"), "{error}");
}
