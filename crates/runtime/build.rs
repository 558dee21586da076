//! Builds the two programs that the runtime carries inside itself, and the service beside the CRI.
//!
//! The shim has no std and a link line of its own, so rustc compiles it directly. The launcher is
//! an ordinary package with another libc linkage and profile, so a second cargo builds it, in a
//! target folder of its own because the first cargo holds the lock of the usual one.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by environment variables")]

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let crates = manifest.parent().ok_or("the package has no parent folder")?;
    println!("cargo::rerun-if-changed=proto/images.proto");
    for watched in ["shim/src", "launcher/src", "launcher/Cargo.toml", "launcher/libcgroups"] {
        println!("cargo::rerun-if-changed={}", crates.join(watched).display());
    }
    let descriptors = protox::compile(["proto/images.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    shim(&crates.join("shim/src/main.rs"), &out.join("shim"))?;
    launcher(crates, &out)
}

fn variable(name: &str) -> Outcome<String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}").into())
}

fn shim(source: &Path, target: &Path) -> Outcome<()> {
    let link = "-nostartfiles -nostdlib -static -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noseparate-code";
    let mut command = Command::new(variable("RUSTC")?);
    command
        .args(["--edition", "2024", "--crate-name", "shim", "--crate-type", "bin"])
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "relocation-model=static", "-C", "strip=symbols"])
        .arg(format!("-Clink-args={link}"))
        .args(["--target", &variable("TARGET")?])
        .arg(source)
        .arg("-o")
        .arg(target);
    run(&mut command, "the shim")
}

fn launcher(crates: &Path, out: &Path) -> Outcome<()> {
    let target = variable("TARGET")?;
    let folder = target_folder(out)?.join("embedded");
    let mut command = Command::new(variable("CARGO")?);
    // What the outer cargo was told about its own compilation is not meant for this one.
    for (name, _) in env::vars() {
        let foreign = name.starts_with("CARGO_CFG_")
            || name.starts_with("CARGO_FEATURE_")
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("DEP_")
            || matches!(
                name.as_str(),
                "CARGO_ENCODED_RUSTFLAGS"
                    | "CARGO_MAKEFLAGS"
                    | "MAKEFLAGS"
                    | "RUSTC"
                    | "RUSTC_WORKSPACE_WRAPPER"
                    | "RUSTDOC"
                    | "TARGET"
                    | "HOST"
                    | "OUT_DIR"
                    | "OPT_LEVEL"
                    | "PROFILE"
                    | "DEBUG"
                    | "NUM_JOBS"
                    | "CARGO_MANIFEST_DIR"
                    | "CARGO_MANIFEST_PATH"
                    | "CARGO_MANIFEST_LINKS"
                    | "CARGO_PRIMARY_PACKAGE"
            );
        if foreign {
            command.env_remove(name);
        }
    }
    // With --target these flags reach neither build scripts nor procedural macros.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    command.env("LIBSECCOMP_LINK_TYPE", "static");
    if env::var_os("LIBSECCOMP_LIB_PATH").is_none()
        && let Some(path) = libseccomp()
    {
        command.env("LIBSECCOMP_LIB_PATH", path);
    }
    command
        .args(["build", "--quiet", "--package", "launcher", "--profile", "launcher", "--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(crates);
    run(&mut command, "the launcher (is Debian's libseccomp-dev installed?)")?;
    std::fs::copy(folder.join(&target).join("launcher/launcher"), out.join("launcher"))?;
    Ok(())
}

/// `<target folder>/<profile>/build/<package>/out` is where we write.
fn target_folder(out: &Path) -> Outcome<PathBuf> {
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is not inside a target folder")?;
    let parent = profile.parent().ok_or("OUT_DIR is not inside a target folder")?;
    // A build for a named target has one folder more.
    let named = parent.file_name().is_some_and(|name| name.to_str() == env::var("TARGET").ok().as_deref());
    Ok(if named { parent.parent().unwrap_or(parent) } else { parent }.to_owned())
}

/// The folder that has the static library.
fn libseccomp() -> Option<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    [format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".to_owned(), "/usr/lib".to_owned()]
        .into_iter()
        .find(|folder| Path::new(folder).join("libseccomp.a").exists())
}

fn run(command: &mut Command, what: &str) -> Outcome<()> {
    let status = command.status().map_err(|e| format!("building {what}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("building {what} failed: {status}").into()) }
}
