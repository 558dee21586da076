//! What a machine may lack: the error names it, and the way out.

use std::net::TcpListener;
use std::process::{Command, Output};

const KNARR: &str = env!("CARGO_BIN_EXE_knarr");

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_busy_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let name = format!("busy{}", std::process::id());
    let run = |command: &str, flags: &[&str]| {
        let mut knarr = Command::new(KNARR);
        knarr.args([command, "--name", &name, "--data-dir"]).arg(dir.path().join("data")).args(flags);
        knarr.output().unwrap()
    };
    let kubeconfig = dir.path().join("kubeconfig").display().to_string();
    let flags = ["--control-plane-only", "--kubeconfig", &kubeconfig, "--port"];
    let output = run("up", &[&flags[..], &[&port]].concat());
    assert!(!output.status.success());
    assert!(
        said(&output).contains(&format!("port {port} is taken: choose another with --port")),
        "{}",
        said(&output)
    );
    // Nothing was begun: another port works.
    let output = run("up", &[&flags[..], &["0"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let output = run("down", &["--purge"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_machine_without_cgroups_is_told_so_and_runs_no_node() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: only root can take them away");
        return;
    }
    // In a mount namespace of its own the hierarchies can be taken away for a moment.
    let without = |arguments: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "sh",
            "-c",
            "umount --recursive --lazy /sys/fs/cgroup && exec \"$@\"",
            "sh",
            KNARR,
        ]);
        unshare.args(arguments).output().unwrap()
    };
    let output = without(&["check"]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("no controller cpu, memory, pids"), "{}", said(&output));
    assert!(said(&output).contains("mount cgroup v2 at /sys/fs/cgroup"), "{}", said(&output));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let kubeconfig = dir.path().join("kubeconfig").display().to_string();
    let name = format!("bare{}", std::process::id());
    let up = ["up", "--name", &name, "--data-dir", &data, "--port", "0", "--kubeconfig", &kubeconfig];
    let output = without(&up);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("this machine cannot run nodes"), "{}", said(&output));
    let down =
        Command::new(KNARR).args(["down", "--name", &name, "--data-dir", &data, "--purge"]).output().unwrap();
    assert!(down.status.success(), "{}", said(&down));
}

#[test]
fn a_server_that_does_not_start_on_a_full_disk_says_why() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: only root has a disk to fill");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (disk, kubeconfig) = (dir.path().join("disk"), dir.path().join("kubeconfig"));
    std::fs::create_dir(&disk).unwrap();
    let run = |program: &mut Command| program.output().unwrap();
    let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]).arg(&disk));
    assert!(mounted.status.success(), "{}", said(&mounted));
    let name = format!("full{}", std::process::id());
    let knarr = |command: &str, flags: &[&str]| {
        let mut knarr = Command::new(KNARR);
        knarr.args([command, "--name", &name, "--data-dir"]).arg(disk.join("data")).args(flags);
        run(&mut knarr)
    };
    let kubeconfig = kubeconfig.display().to_string();
    let flags = ["--control-plane-only", "--port", "0", "--kubeconfig", &kubeconfig];
    assert!(knarr("up", &flags).status.success());
    assert!(knarr("down", &[]).status.success());
    std::fs::write(disk.join("data/logs/server.log"), "").unwrap();
    let mut fill = std::fs::File::create(disk.join("fill")).unwrap();
    while std::io::Write::write_all(&mut fill, &[1; 4096]).is_ok() {}
    let output = knarr("up", &flags);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("no room is left on the disk of"), "{}", said(&output));
    // Once there is room, all is as it was.
    drop(fill);
    std::fs::remove_file(disk.join("fill")).unwrap();
    let output = knarr("up", &flags);
    assert!(output.status.success(), "{}", said(&output));
    assert!(knarr("down", &["--purge"]).status.success());
    let unmounted = run(Command::new("umount").arg(&disk));
    assert!(unmounted.status.success(), "{}", said(&unmounted));
}
