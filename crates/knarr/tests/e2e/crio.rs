//! CRI-O, with conmon and runc, in the place of our runtime. The program `pinns` lies beside it; images are brought by
//! skopeo, straight into its store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::peer_runtime::{PAUSE, Place, Recipe};

/// Writes its configuration, and the network's: nobody tells CRI-O the node's networks, but the agent writes them.
pub fn recipe(program: &Path, place: &Place, handlers: &[(&str, &str)]) -> Recipe {
    let dir = &place.dir;
    let plugin = serde_json::json!({"type": "knarr-cni", "podCIDRFile": place.run.join("pod-cidrs"),
        "dataDir": dir.join("cni/pods"), "capabilities": {"bandwidth": true}});
    let list = serde_json::json!({"cniVersion": "1.0.0", "name": "knarr", "plugins": [plugin]});
    fs::write(dir.join("cni/net.d/knarr.conflist"), list.to_string()).unwrap();
    fs::write(dir.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let file = dir.join("crio.conf");
    let classes =
        [("runc", "runc")].iter().chain(handlers).map(|(name, program)| class(place, name, program));
    fs::write(&file, toml(program, place) + &classes.collect::<String>()).unwrap();
    let store = format!("[overlay@{}+{}]", dir.join("root").display(), place.run.join("crio").display());
    let import = move |archive: &str| {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", &format!("docker-archive:{archive}")]);
        command.arg(format!("containers-storage:{store}{}", name_of(archive)));
        command
    };
    let command = vec![program.into(), "--config".into(), file.into(), "--config-dir".into(), "".into()];
    Recipe { command, import: Box::new(import) }
}

/// The name of the one image in an archive.
fn name_of(archive: &str) -> String {
    let output = Command::new("tar").args(["-xOf", archive, "manifest.json"]).output().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    manifest[0]["RepoTags"][0].as_str().unwrap().to_owned()
}

/// As its documentation has it, but in folders of its own.
fn toml(program: &Path, place: &Place) -> String {
    let (dir, run, pinns) = (place.dir.display(), place.run.display(), program.with_file_name("pinns"));
    // Sockets' paths have 107 bytes at most, and a container's name takes 64.
    let node = place.run.file_name().unwrap().to_string_lossy();
    let attach = place.run.join("../..").canonicalize().unwrap();
    let attach = attach.join(node.rsplit('-').next().unwrap());
    format!(
        r#"[crio]
root = "{dir}/root"
runroot = "{run}/crio"
storage_driver = "overlay"
log_dir = "{dir}/pod-logs"
version_file = "{run}/crio-version"
version_file_persist = ""
clean_shutdown_file = "{dir}/clean"
[crio.api]
listen = "{run}/runtime/cri.sock"
[crio.nri]
enable_nri = false
[crio.image]
pause_image = "{PAUSE}"
pause_command = ""
signature_policy = "{dir}/policy.json"
[crio.network]
network_dir = "{dir}/cni/net.d"
plugin_dirs = ["{dir}/cni/bin"]
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
pinns_path = "{pinns}"
namespaces_dir = "{run}/crio-namespaces"
container_exits_dir = "{run}/crio-exits"
container_attach_socket_dir = "{attach}"
"#,
        pinns = pinns.display(),
        attach = attach.display()
    )
}

/// What its configuration says of a class of pods that a program runs.
fn class(place: &Place, name: &str, program: &str) -> String {
    let path = match may_lower_oom_score() {
        true if Path::new(program).is_absolute() => program.to_owned(),
        true => String::new(),
        false => wrapper(place, name, program),
    };
    format!(
        "[crio.runtime.runtimes.{name}]\nruntime_path = \"{path}\"\nruntime_root = \"{}/crio-{name}\"\nmonitor_cgroup = \"pod\"\n",
        place.run.display()
    )
}

fn may_lower_oom_score() -> bool {
    let lowers = "read now < /proc/self/oom_score_adj && echo $((now - 1)) > /proc/self/oom_score_adj";
    Command::new("sh").args(["-c", lowers]).stderr(Stdio::null()).status().unwrap().success()
}

/// A program that neither lowers `oomScoreAdj` nor gives a privileged container what nobody has here, `CAP_SYS_RESOURCE`:
/// CRI-O asks for both always.
fn wrapper(place: &Place, name: &str, program: &str) -> String {
    let path = place.dir.join(format!("{name}.sh"));
    fs::write(&path, WRAPPER.replace("PROGRAM", program)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

const WRAPPER: &str = r#"#!/bin/sh
before=
for argument; do
    case $before in
    --bundle) file=$argument/config.json ;;
    --process) file=$argument ;;
    *) file= ;;
    esac
    if [ -n "$file" ]; then
        sed -i -e 's/"oomScoreAdj": *-[0-9]*/"oomScoreAdj": 0/' -e 's/"CAP_SYS_RESOURCE",//g' "$file"
    fi
    before=$argument
done
exec PROGRAM "$@"
"#;
