//! Namespaces for tests.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns, unshare};

use crate::link::Links;

/// Runs a test on a thread with a network namespace of its own, which ends with it.
pub fn alone(test: impl FnOnce() + Send) {
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        block_on(async { Links::open().unwrap().up("lo").await.unwrap() });
        test();
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A namespace that is pinned as a pod's is, until it is dropped.
pub struct Namespace {
    dir: tempfile::TempDir,
}

impl Namespace {
    pub fn new() -> Self {
        let namespace = Self { dir: tempfile::tempdir().unwrap() };
        crate::namespace::create(&namespace.path()).unwrap();
        namespace
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("net")
    }

    /// Runs something inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.path()).unwrap();
        let inside = move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = crate::namespace::remove(&self.path());
    }
}

/// A namespace that is linked to this one by `name`, with an address at each end.
pub fn peer<F: Future<Output = ()>>(
    here: Ipv4Addr,
    there: Ipv4Addr,
    name: &'static str,
    then: impl FnOnce(Links) -> F,
) -> Namespace {
    let namespace = Namespace::new();
    block_on(async {
        let links = Links::open().unwrap();
        let file = std::fs::File::open(namespace.path()).unwrap();
        links.veth_into(name, [2, 0, 0, 0, 0, 1], file.as_raw_fd(), "eth0").await.unwrap();
        links.address(name, here, 24).await.unwrap();
        links.up(name).await.unwrap();
        then(links).await;
    });
    namespace.run(move || {
        block_on(async {
            let links = Links::open().unwrap();
            links.address("eth0", there, 24).await.unwrap();
            links.up("eth0").await.unwrap();
        });
    });
    namespace
}
