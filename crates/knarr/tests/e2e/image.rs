use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// An archive, as `docker save` writes it, of an image with busybox, and a client that looks names up.
pub fn busybox(dir: &Path, name: &str) -> String {
    let work = dir.join("image");
    fs::create_dir_all(work.join("root/bin")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
    fs::copy(busybox, work.join("root/bin/busybox")).unwrap();
    for tool in run(Command::new(busybox).arg("--list")).lines().filter(|&tool| tool != "busybox") {
        symlink("busybox", work.join("root/bin").join(tool)).unwrap();
    }
    client(&work.join("root"));
    run(Command::new("tar").arg("-C").arg(work.join("root")).arg("-cf").arg(work.join("layer.tar")).arg("."));
    save(&work, name, &shell(), &["layer.tar"])
}

fn shell() -> serde_json::Value {
    serde_json::json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]})
}

/// The same with a small layer above it, which no other image has. [`busybox`] has to be made in `dir` before.
pub fn busybox_with(dir: &Path, name: &str, mark: &str) -> String {
    let work = dir.join("image");
    fs::write(work.join("mark"), mark).unwrap();
    run(Command::new("tar").arg("-C").arg(&work).arg("-cf").arg(work.join("mark.tar")).arg("mark"));
    save(&work, name, &shell(), &["layer.tar", "mark.tar"])
}

/// An image whose containers sleep until they are asked to end: the pause containers of other runtimes.
pub fn pause(dir: &Path, name: &str) -> String {
    let work = dir.join("pause");
    fs::create_dir_all(work.join("root/bin")).unwrap();
    fs::copy("/bin/busybox", work.join("root/bin/busybox")).unwrap();
    run(Command::new("tar").arg("-C").arg(work.join("root")).arg("-cf").arg(work.join("layer.tar")).arg("."));
    let config = serde_json::json!({"Entrypoint": ["/bin/busybox", "sh", "-c",
        "trap 'exit 0' TERM; /bin/busybox sleep 2147483647 & wait"]});
    save(&work, name, &config, &["layer.tar"])
}

/// The archive of an image of layers that lie in `work`.
fn save(work: &Path, name: &str, config: &serde_json::Value, layers: &[&str]) -> String {
    let digest = |layer: &&str| {
        let sum = run(Command::new("sha256sum").arg(work.join(layer)));
        format!("sha256:{}", sum.split_whitespace().next().unwrap())
    };
    let diff_ids: Vec<String> = layers.iter().map(digest).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    fs::write(work.join("config.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": layers}]);
    fs::write(work.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = work.with_extension("archive.tar");
    let files = ["manifest.json", "config.json"];
    run(Command::new("tar").arg("-C").arg(work).arg("-cf").arg(&archive).args(files).args(layers));
    archive.display().to_string()
}

/// Programs of the machine that busybox does not have, or cannot be: a client that looks names up as programs do, and
/// what holds a lock for as long as it lives.
fn client(root: &Path) {
    for program in ["/bin/bash", "/usr/bin/flock"] {
        let libraries = run(Command::new("ldd").arg(program));
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in libraries.chain([program]) {
            let to = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
    }
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
    let get = root.join("bin/get");
    fs::write(&get, GET).unwrap();
    fs::set_permissions(&get, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `get HOST PORT [PATH]` prints the page.
const GET: &str = r#"#!/bin/bash
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET %s HTTP/1.0\r\n\r\n' "${3:-/index.html}" >&3
sed '1,/^.\?$/d' <&3
"#;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
