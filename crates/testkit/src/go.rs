//! Programs in Go beside this crate: peers and oracles of tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of the directory `crates/testkit/NAME`: `<checkout>/.cache/bin/NAME`, built when it is missing or older
/// than its source.
///
/// # Panics
/// When it cannot be built.
pub fn program(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, dir) = (here.join(name), here.join("../../.cache/bin"));
    fs::create_dir_all(&dir).unwrap();
    let dir = fs::canonicalize(dir).unwrap();
    let (binary, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let lock = File::create(dir.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if modified(&binary) < modified(&source.join("main.go")) {
        let built = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
            .args([&new, Path::new(".")])
            .current_dir(&source)
            .status();
        match built {
            Ok(status) if status.success() => fs::rename(new, &binary).unwrap(),
            other => panic!("building {name} with `go build` in {} failed: {other:?}", source.display()),
        }
    }
    binary
}
