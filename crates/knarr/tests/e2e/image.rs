use std::fs;
use std::path::Path;
use std::process::Command;

/// An archive, as `docker save` writes it, of an image with busybox alone.
pub fn busybox(dir: &Path, name: &str) -> String {
    let work = dir.join("image");
    fs::create_dir_all(work.join("root/bin")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(
        busybox.expect("busybox-static is needed: apt-get install busybox-static"),
        work.join("root/bin/busybox"),
    )
    .unwrap();
    for tool in ["sh", "cat"] {
        std::os::unix::fs::symlink("busybox", work.join("root/bin").join(tool)).unwrap();
    }
    run(Command::new("tar").arg("-C").arg(work.join("root")).arg("-cf").arg(work.join("layer.tar")).arg("."));
    let sum = run(Command::new("sha256sum").arg(work.join("layer.tar")));
    let sum = sum.split_whitespace().next().unwrap();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    fs::write(work.join("config.json"), config.to_string()).unwrap();
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(work.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = dir.join("busybox.tar");
    run(Command::new("tar").arg("-C").arg(&work).arg("-cf").arg(&archive).args([
        "manifest.json",
        "config.json",
        "layer.tar",
    ]));
    archive.display().to_string()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
