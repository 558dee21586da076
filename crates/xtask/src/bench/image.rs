//! Images of busybox alone, made on the spot.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The image's name.
pub(super) const NAME: &str = "docker.io/library/busybox:bench";
/// The large image's name.
pub(super) const LARGE: &str = "docker.io/library/large:bench";

fn busybox() -> Result<&'static Path> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists());
    found.context("busybox is needed: apt-get install busybox-static")
}

/// Writes the image as an archive, as `docker save` does.
///
/// # Errors
/// When there is no busybox on this machine.
pub(super) fn archive(dir: &Path) -> Result<PathBuf> {
    let work = dir.join("image");
    let root = folder(&work)?;
    fs::copy(busybox()?, root.join("bin/busybox"))?;
    save(&work, NAME, &["/bin/busybox"], &[layer(&work, &root, "layer", false)?])
}

/// Writes the image of pause containers: of `program`, or of a busybox that sleeps.
///
/// # Errors
/// When the program, or busybox, is not there.
pub(super) fn pause(dir: &Path, name: &str, program: Option<&Path>) -> Result<PathBuf> {
    let work = dir.join("pause");
    let root = folder(&work)?;
    let entrypoint: &[&str] = match program {
        Some(program) => {
            fs::copy(program, root.join("pause"))
                .with_context(|| format!("copying {}", program.display()))?;
            &["/pause"]
        }
        None => {
            fs::copy(busybox()?, root.join("bin/busybox"))?;
            &["/bin/busybox", "sleep", "2147483647"]
        }
    };
    save(&work, name, entrypoint, &[layer(&work, &root, "layer", false)?])
}

/// How many layers the large image has, and how many files of 64 KiB each of them.
const LAYERS: [usize; 2] = [4, 1024];

/// Writes a large image, its layers packed by gzip, and says how many bytes its files have. Each `seed` makes another.
///
/// # Errors
/// When there is no room for it.
pub(super) fn large(dir: &Path, seed: usize) -> Result<(PathBuf, u64)> {
    let work = dir.join("large");
    let [layers, files] = LAYERS;
    let (mut packed, mut bytes, mut state) = (Vec::new(), 0, seed as u64);
    for number in 0..layers {
        let root = folder(&work.join(format!("tree-{number}")))?;
        for file in 0..files {
            let mut text = Vec::with_capacity(64 << 10);
            while text.len() < 64 << 10 {
                // Words as of a program's text: half of them come again and again.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let word = if state >> 63 == 0 { state >> 40 } else { (state >> 40) % 64 };
                write!(text, "{word:x} ")?;
            }
            bytes += text.len() as u64;
            let folder = root.join(format!("usr/lib/{number}/{}", file % 32));
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(format!("file-{file}")), text)?;
        }
        packed.push(layer(&work, &root, &format!("layer-{number}"), true)?);
    }
    Ok((save(&work, LARGE, &["/none"], &packed)?, bytes))
}

fn folder(work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    fs::create_dir_all(root.join("bin"))?;
    Ok(root)
}

/// A layer of an image: its file below the image's folder, and what its files' digest is before they are packed.
type Layer = (String, String);

fn layer(work: &Path, root: &Path, name: &str, packed: bool) -> Result<Layer> {
    let tar = work.join(format!("{name}.tar"));
    run(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&tar).arg("."))?;
    let sum = run(Command::new("sha256sum").arg(&tar))?;
    let sum = sum.split_whitespace().next().context("sha256sum said nothing")?.to_owned();
    if packed {
        run(Command::new("gzip").args(["-n", "-f"]).arg(&tar))?;
    }
    Ok((if packed { format!("{name}.tar.gz") } else { format!("{name}.tar") }, sum))
}

/// This machine's processor, by its name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn save(work: &Path, name: &str, entrypoint: &[&str], layers: &[Layer]) -> Result<PathBuf> {
    let digests: Vec<String> = layers.iter().map(|(_, sum)| format!("sha256:{sum}")).collect();
    let files: Vec<&str> = layers.iter().map(|(file, _)| file.as_str()).collect();
    let config = serde_json::json!({"architecture": architecture(), "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": digests}});
    fs::write(work.join("config.json"), config.to_string())?;
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": files}]);
    fs::write(work.join("manifest.json"), manifest.to_string())?;
    let archive = work.with_extension("archive.tar");
    let mut tar = Command::new("tar");
    run(tar.arg("-C").arg(work).arg("-cf").arg(&archive).args(["manifest.json", "config.json"]).args(files))?;
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
