//! Pods connected by CNI plugins: the reference ones, and scripts that fail and hang. Each test has a network
//! namespace of its own, which ends with it.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cri::v1::*;
use nix::sched::{CloneFlags, unshare};
use runtime::{CniSettings, Config};
use serde_json::json;

use crate::node::{Node, eventually};

/// The reference plugins, built from the Go module beside this file when they are missing or older than it.
fn reference_plugins() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, cache) = (here.join("tests/cri/plugins"), here.join("../../.cache/bin"));
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("cni.lock")).unwrap();
    lock.lock().unwrap();
    let dir = fs::canonicalize(&cache).unwrap().join("cni");
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if modified(&dir.join("portmap")) < modified(&source.join("go.mod")) {
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(dir.join("")).arg("tool");
        let built = go.current_dir(&source).status();
        assert!(built.is_ok_and(|status| status.success()), "building CNI plugins in {}", source.display());
    }
    dir
}

/// Runs a test whose every thread is in a network namespace of its own.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        shell("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(Box::pin(test()));
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn folder(config: &Config) -> PathBuf {
    config.root.parent().unwrap().to_owned()
}

fn settings(config: &mut Config, bin_dir: &Path, required: bool) {
    let folder = folder(config);
    config.cni = Some(CniSettings {
        conf_dir: folder.join("net.d"),
        bin_dirs: vec![bin_dir.to_owned()],
        cache_dir: folder.join("cache"),
        required,
        timeout: Duration::from_secs(20),
    });
}

async fn readiness(node: &Node) -> RuntimeCondition {
    let status = node.runtime.clone().status(StatusRequest { verbose: false }).await.unwrap().into_inner();
    let mut conditions = status.status.unwrap().conditions;
    conditions.retain(|condition| condition.r#type == "NetworkReady");
    conditions.remove(0)
}

async fn set_cidr(node: &mut Node, cidr: &str) {
    let network_config = Some(NetworkConfig { pod_cidr: cidr.into() });
    let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
    node.runtime.update_runtime_config(request).await.unwrap();
}

async fn addresses(node: &Node, pod: &str) -> Vec<String> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: false };
    let status = node.runtime.clone().pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    let network = status.network.unwrap();
    [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip)).collect()
}

fn write_whole(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_extension("tmp"), text).unwrap();
    fs::rename(path.with_extension("tmp"), path).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn hello(ip: IpAddr, port: u16) -> Option<String> {
    let mut text = String::new();
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(2)).ok()?;
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn reference_network(data: &Path) -> String {
    json!({"cniVersion": "1.1.0", "name": "ref", "plugins": [
        {"type": "bridge", "bridge": "cnitest0", "isGateway": true, "ipam": {"type": "host-local",
            "dataDir": data, "routes": [{"dst": "0.0.0.0/0"}]}, "capabilities": {"ipRanges": true}},
        {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ]})
    .to_string()
}

#[test]
fn the_reference_plugins_connect_pods_and_undo_it_after_a_restart() {
    let plugins = reference_plugins();
    alone(|| async {
        let mut node = Node::empty_with(|config| settings(config, &plugins, true)).await;
        node.import_busybox().await;
        let (conf, data) =
            (node.folder.path().join("net.d/10-ref.conflist"), node.folder.path().join("ipam"));
        let before = readiness(&node).await;
        assert_eq!((before.status, before.reason.as_str()), (false, "NetworkPluginNotReady"));
        assert!(before.message.starts_with("Network plugin returns error: cni plugin not initialized"));

        set_cidr(&mut node, "10.88.7.0/24").await;
        write_whole(&conf, &reference_network(&data));
        eventually("the plugins to be ready", || readiness(&node), |ready| ready.status).await;
        let mut pod = node.pod("web");
        pod.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "10M".into());
        let port = PortMapping { host_port: 18080, container_port: 8080, ..PortMapping::default() };
        pod.port_mappings.push(port);
        let id = node.run_pod(pod).await;
        let ips = addresses(&node, &id).await;
        assert_eq!(ips, ["10.88.7.2"]);
        let serve = "while true; do echo hello | nc -l -p 8080; done";
        node.run(&id, Node::shell("c", serve)).await;
        let ip: IpAddr = ips[0].parse().unwrap();
        let answer = || async { hello(ip, 8080) };
        eventually("the pod", answer, |said| said.as_deref() == Some("hello\n")).await;
        let answer = || async { hello([10, 88, 7, 1].into(), 18080) };
        eventually("the pod's host port", answer, |said| said.as_deref() == Some("hello\n")).await;
        assert!(shell("tc qdisc show").contains("tbf"), "the pod is not shaped");

        // Whoever starts later undoes it as it was done, though the folder says nothing any more.
        node.stop_runtime().await;
        fs::remove_file(&conf).unwrap();
        node.start_runtime().await;
        assert!(!readiness(&node).await.status);
        assert_eq!(hello(ip, 8080).as_deref(), Some("hello\n"));
        node.remove_pod(&id).await;
        assert!(!shell("ip -o link").contains("veth"), "{}", shell("ip -o link"));
        assert!(!names(&data.join("ref")).contains(&"10.88.7.2".to_owned()), "the address is not freed");
        assert_eq!(names(&node.folder.path().join("cache/results")), Vec::<String>::new());
        node.finish().await;
    });
}

/// A plugin that writes down how it is called, and does what a file beside it says.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$CNI_COMMAND $CNI_CONTAINERID $(cat)" >>"$here/calls"
. "$here/behaviour"
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.9.9/24"}]}'
exit 0
"#;

struct Script(tempfile::TempDir);

impl Script {
    fn new() -> Self {
        let script = Self(tempfile::tempdir().unwrap());
        let path = script.0.path().join("script");
        fs::write(&path, SCRIPT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        script.behave("");
        script
    }

    fn behave(&self, how: &str) {
        write_whole(&self.0.path().join("behaviour"), how);
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn commands(&self) -> Vec<String> {
        self.calls().iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect()
    }
}

async fn scripted(script: &Script, timeout: Duration) -> Node {
    let node = Node::empty_with(|config| {
        settings(config, script.0.path(), false);
        config.cni.as_mut().unwrap().timeout = timeout;
        let conf = json!({"cniVersion": "1.1.0", "name": "s", "type": "script"});
        write_whole(&folder(config).join("net.d/1.conf"), &conf.to_string());
    })
    .await;
    node.import_busybox().await;
    node
}

async fn refusal(node: &mut Node, name: &str) -> String {
    let request = RunPodSandboxRequest { config: Some(node.pod(name)), runtime_handler: String::new() };
    Box::pin(node.runtime.run_pod_sandbox(request)).await.unwrap_err().message().to_owned()
}

#[test]
fn what_plugins_say_of_their_failure_reaches_the_kubelet_and_is_cleared_away() {
    alone(|| async {
        let script = Script::new();
        let mut node = scripted(&script, Duration::from_millis(1500)).await;
        script.behave(
            r#"[ $CNI_COMMAND = ADD ] && echo '{"code":11,"msg":"no pool yet","details":"wait"}' && exit 1"#,
        );
        let error = refusal(&mut node, "refused").await;
        assert!(
            error.contains(r#"plugin type="script" name="s" failed (add): no pool yet; wait (code 11)"#),
            "{error}"
        );
        script.behave("[ $CNI_COMMAND = ADD ] && sleep 1000");
        let error = refusal(&mut node, "hung").await;
        assert!(error.contains("did not end within 1.5s and was killed"), "{error}");
        let commands: Vec<_> = script.commands().into_iter().filter(|c| c == "ADD" || c == "DEL").collect();
        assert_eq!(commands, ["ADD", "DEL", "ADD", "DEL"]);
        assert_eq!(names(&node.folder.path().join("cache/results")), Vec::<String>::new());

        script.behave(r#"[ $CNI_COMMAND = STATUS ] && echo '{"code":50,"msg":"no daemon"}' && exit 1"#);
        let ready = readiness(&node).await;
        assert!(!ready.status && ready.message.contains("failed (status): no daemon (code 50)"), "{ready:?}");
        script.behave("");
        assert!(readiness(&node).await.status);
        // One that is ready is not asked at each of the kubelet's looks.
        let asked = script.commands().len();
        assert!(readiness(&node).await.status);
        assert_eq!(script.commands().len(), asked);
        write_whole(&node.folder.path().join("net.d/0.conf"), "{");
        let broken = eventually("the broken file", || readiness(&node), |ready| !ready.status).await;
        assert!(broken.message.contains("failed to load CNI config file"), "{broken:?}");
        fs::remove_dir_all(node.folder.path().join("net.d")).unwrap();
        // No plugin any more: the network beside is there again.
        eventually("the other network", || readiness(&node), |ready| ready.status).await;
        node.finish().await;
    });
}

#[test]
fn a_runtime_that_starts_checks_what_is_there_and_undoes_what_nobody_has() {
    alone(|| async {
        let script = Script::new();
        let mut node = scripted(&script, Duration::from_secs(20)).await;
        let id = node.run_pod(node.pod("kept")).await;
        assert_eq!(addresses(&node, &id).await, ["10.9.9.9"]);
        node.stop_runtime().await;
        // As it is when a runtime is killed between a plugin's ADD and the sandbox's end.
        let results = node.folder.path().join("cache/results");
        let known = fs::read_to_string(results.join(format!("s-{id}-eth0"))).unwrap();
        fs::write(results.join("s-gone-eth0"), known.replace(&id, "gone")).unwrap();
        node.start_runtime().await;
        let called = |what: &'static str| {
            let script = &script;
            move || async move { script.calls().into_iter().rfind(|call| call.starts_with(what)) }
        };
        let undone = eventually("the DEL", called("DEL gone"), Option::is_some).await.unwrap();
        assert!(undone.contains(r#""prevResult":{"cniVersion":"1.1.0""#), "{undone}");
        let valid = format!(r#""cni.dev/valid-attachments":[{{"containerID":"{id}","ifname":"eth0"}}]"#);
        let fits = |call: &Option<String>| call.as_ref().is_some_and(|call| call.contains(&valid));
        eventually("the GC", called("GC "), fits).await;
        let checked = eventually("the CHECK", called("CHECK "), Option::is_some).await.unwrap();
        assert!(checked.starts_with(&format!("CHECK {id} ")), "{checked}");
        assert_eq!(names(&results), [format!("s-{id}-eth0")]);

        // A plugin that cannot undo anything now keeps no runtime from starting, and no pod for ever.
        script.behave("[ $CNI_COMMAND = DEL ] && exit 1");
        let stop = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        let refused = node.runtime.stop_pod_sandbox(stop).await.unwrap_err();
        assert!(refused.message().contains("failed (delete)"), "{refused:?}");
        node.restart().await;
        assert_eq!(names(&results), [format!("s-{id}-eth0")]);
        script.behave("");
        node.finish().await;
        // What the new runtime clears up in its own time may come after it.
        assert_eq!(script.commands().iter().rfind(|command| *command != "GC").unwrap(), "DEL");
    });
}
