//! Full and read-only disks, on a small tmpfs in a mount namespace that ends with the test's thread.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use store::embedded::{Embedded, EmbeddedOptions};
use store::testing::put;
use store::{Expect, KeyRange, RangeOptions, Store};

const NONE: Option<&str> = None;

/// Runs `test` with a tmpfs of `size` that nobody else sees, or says why it cannot.
fn on_tmpfs(size: &'static str, test: impl FnOnce(PathBuf, &tokio::runtime::Runtime) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(&options[..])).unwrap();
        // A runtime of this thread alone: its threads are in the namespace too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        test(path, &runtime);
    })
    .join()
    .unwrap();
}

async fn fill(store: &Embedded, written: &mut Vec<String>) -> store::StoreError {
    loop {
        let key = format!("/full/{}", written.len());
        match store.commit(vec![put(key.clone(), Expect::Absent, noise(written.len(), 16 << 10))]).await {
            Ok(_) => written.push(key),
            Err(error) => return error,
        }
    }
}

/// Bytes that do not compress.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    use base::Random;
    let mut bytes = vec![0; len];
    base::SeededRandom::new(seed as u64).fill(&mut bytes);
    bytes
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    on_tmpfs("12m", |path, runtime| {
        let ballast = path.join("ballast");
        File::create(&ballast).unwrap().write_all(&vec![1; 4 << 20]).unwrap();
        let dir = path.join("store");
        let mut written = Vec::new();
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let store = Embedded::open(&dir, options).unwrap();
        let error = runtime.block_on(fill(&store, &mut written));
        assert!(
            error.to_string().contains("os error 28") || error.to_string().contains("StorageFull"),
            "{error}"
        );
        assert!(written.len() > 100, "{}", written.len());
        assert!(runtime.block_on(store.get(b"/full/0", None)).is_err(), "poisoned");
        drop(store);
        fs::remove_file(ballast).unwrap();
        let options = EmbeddedOptions { reserve_bytes: 1 << 20, ..EmbeddedOptions::default() };
        let store = Embedded::open(&dir, options).unwrap();
        let all =
            runtime.block_on(store.range(&KeyRange::prefix("/full/"), RangeOptions::default())).unwrap();
        let found: std::collections::BTreeSet<_> = all.kvs.iter().map(|kv| kv.key.to_vec()).collect();
        assert!(written.iter().all(|key| found.contains(key.as_bytes())));
        assert!(found.len() <= written.len() + 1, "at most the write whose outcome was unknown is there too");
        for kv in &all.kvs {
            let n: usize = std::str::from_utf8(&kv.key[6..]).unwrap().parse().unwrap();
            assert_eq!(kv.value, noise(n, 16 << 10));
        }
        runtime.block_on(store.commit(vec![put("/after", Expect::Absent, "works")])).unwrap();
    });
}

#[test]
fn what_is_short_of_room_is_read_on_and_written_again_when_there_is_some() {
    on_tmpfs("100m", |path, runtime| {
        let ballast = path.join("ballast");
        let store = crate::open(&path.join("store"));
        let commit = |op| runtime.block_on(store.commit(vec![op])).map_err(Box::new);
        commit(put("/before", Expect::Absent, "a")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(0), &mut File::create(&ballast).unwrap());
        assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let refused = commit(put("/during", Expect::Absent, "b")).unwrap_err();
        assert!(matches!(*refused, store::StoreError::NoSpace { free: 0, needed: 32, .. }), "{refused}");
        let refused = runtime.block_on(store.compact(2)).unwrap_err();
        assert!(matches!(refused, store::StoreError::NoSpace { free: 0, needed: 8, .. }), "{refused}");
        let get = |key: &str| runtime.block_on(store.get(key.as_bytes(), None)).unwrap().1;
        assert_eq!(get("/before").unwrap().value, "a");
        assert!(get("/during").is_none());
        // With a little room there may be less, and not more.
        File::options().write(true).open(&ballast).unwrap().set_len(80 << 20).unwrap();
        commit(put("/during", Expect::Absent, "b")).unwrap_err();
        commit(store::Op { key: "/before".into(), expect: Expect::Any, change: store::Change::Delete })
            .unwrap();
        assert!(get("/before").is_none());
        fs::remove_file(&ballast).unwrap();
        commit(put("/during", Expect::Absent, "c")).unwrap();
        assert_eq!(get("/during").unwrap().value, "c");
    });
}

fn open_error(dir: &Path) -> String {
    Embedded::open(dir, EmbeddedOptions::default()).err().unwrap().to_string()
}

#[test]
fn a_read_only_disk_is_an_error_that_names_the_directory() {
    on_tmpfs("200m", |path, _| {
        let dir = path.join("store");
        drop(crate::open(&dir));
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NONE, &path, NONE, read_only, NONE).unwrap();
        for dir in [&dir, &path.join("other")] {
            let error = open_error(dir);
            assert!(error.contains(&dir.display().to_string()) && error.contains("Read-only"), "{error}");
        }
    });
}
