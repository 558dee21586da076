//! An image with busybox alone, made on the spot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The image's name.
pub(super) const NAME: &str = "docker.io/library/busybox:bench";

/// Writes the image as an archive, as `docker save` does.
///
/// # Errors
/// When there is no busybox on this machine.
pub(super) fn archive(dir: &Path) -> Result<PathBuf> {
    let work = dir.join("image");
    fs::create_dir_all(work.join("root/bin"))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("busybox is needed: apt-get install busybox-static")?;
    fs::copy(busybox, work.join("root/bin/busybox"))?;
    let layer = work.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(work.join("root")).arg("-cf").arg(&layer).arg("."))?;
    let sum = run(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split_whitespace().next().context("sha256sum said nothing")?;
    let config = serde_json::json!({"architecture": std::env::consts::ARCH, "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    fs::write(work.join("config.json"), config.to_string())?;
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    fs::write(work.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join("busybox.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-C").arg(&work).arg("-cf").arg(&archive).args(files))?;
    Ok(archive)
}

/// What a program says.
///
/// # Errors
/// When it fails: with what it says about it.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
