//! Containerd and runc in the place of our runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peer_config as config;
use crate::peer_runtime::{PAUSE, Place, Recipe};

/// The containerd of this machine, with a runc.
pub fn installed() -> Option<PathBuf> {
    let found = |name: &str| {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
            .map(|dir| Path::new(dir).join(name))
            .into_iter()
            .find(|p| p.exists())
    };
    found("runc")?;
    found("containerd")
}

/// Writes its configuration, with a template of the network's: it fills in the node's networks.
pub fn recipe(program: &Path, place: &Place, handlers: &[(&str, &str)]) -> Recipe {
    let dir = &place.dir;
    fs::write(dir.join("cni/template"), config::conflist(dir)).unwrap();
    let handlers: String = handlers.iter().map(|(name, program)| handler(name, program)).collect();
    let file = dir.join("config.toml");
    fs::write(&file, config::toml(dir, &place.run, PAUSE) + &handlers).unwrap();
    let (ctr, socket) = (program.with_file_name("ctr"), place.socket());
    let import = move |archive: &str| {
        let mut command = Command::new(&ctr);
        command.arg("--address").arg(&socket).args(["--namespace", "k8s.io", "images", "import", archive]);
        command
    };
    Recipe { command: vec![program.into(), "--config".into(), file.into()], import: Box::new(import) }
}

/// What its configuration says of a class of pods that a program runs.
fn handler(name: &str, program: &str) -> String {
    let table = format!("plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{name}");
    format!(
        "[{table}]\nruntime_type = \"io.containerd.runc.v2\"\n[{table}.options]\nBinaryName = \"{program}\"\n"
    )
}
