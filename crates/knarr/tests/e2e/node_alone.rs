//! A runtime and a kubelet by themselves, in a network namespace of their own: static pods without an API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::cluster::{fetch_at, is_root, patiently};
use super::control_plane::own_kubelet;
use super::critest::{Running, isolate, remove_pods};
use super::image;

const IMAGE: &str = "example.com/busybox:1";
const PORT: u16 = 10255;

struct Site {
    dir: tempfile::TempDir,
    socket: PathBuf,
    cgroup: String,
    _runtime: Running,
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = fs::File::create(dir.path().join("runtime.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_knarr"));
        command.args(["runtime", "--pod-network", "builtin", "--root"]).arg(dir.path().join("root"));
        command.arg("--state").arg(dir.path().join("state")).stderr(log);
        let runtime = Running(command.spawn().unwrap());
        let socket = dir.path().join("state/cri.sock");
        assert!(patiently(|| socket.exists()), "the runtime does not come up");
        let cgroup = format!("knarr-alone-{}", std::process::id());
        Self { dir, socket, cgroup, _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `knarr image` at the runtime.
    fn image(&self, arguments: &[&str]) -> String {
        let endpoint = format!("unix://{}", self.socket.display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_knarr"));
        let output =
            command.args(["image", "--runtime-endpoint", &endpoint]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// As the documentation of Kubernetes has it for this mode.
    fn configure(&self, more: &str) {
        let (dir, cgroup) = (self.dir.path().display(), &self.cgroup);
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nenableServer: false\n\
             address: 127.0.0.1\nreadOnlyPort: {PORT}\nstaticPodPath: {dir}/manifests\npodCIDR: 10.99.7.0/24\n\
             containerRuntimeEndpoint: unix://{}\npodLogsDir: {dir}/logs\ncgroupRoot: /{cgroup}\n\
             failCgroupV1: false\nfailSwapOn: false\nhealthzPort: 0\nimageGCHighThresholdPercent: 100\n\
             evictionHard: {{memory.available: 10Mi}}\n{more}",
            self.socket.display()
        );
        fs::write(self.path("kubelet.yaml"), text).unwrap();
    }

    fn kubelet(&self) -> Command {
        let mut command = Command::new(own_kubelet(self.dir.path()));
        command.args(["--hostname-override", "alone", "--config"]).arg(self.path("kubelet.yaml"));
        command.arg("--root-dir").arg(self.path("kubelet-root"));
        let log = fs::File::options().create(true).append(true).open(self.path("kubelet.log")).unwrap();
        command.stdin(Stdio::null()).stderr(log);
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("kubelet.log")).unwrap_or_default()
    }

    /// Address and container of the one pod, once it is ready.
    fn ready(&self) -> (String, String) {
        let mut found = None;
        let told = patiently(|| {
            let pods = pods();
            let status = &pods["items"][0]["status"];
            let container = &status["containerStatuses"][0];
            let told = |value: &Value| value.as_str().map(str::to_owned);
            found = told(&status["podIP"]).zip(told(&container["containerID"]));
            container["ready"] == true && found.is_some()
        });
        assert!(told, "{}\n{}", pods(), self.log());
        found.unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        remove_pods(&self.socket);
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        hierarchies.chain([root.to_owned()]).for_each(|at| remove(&at.join(&self.cgroup)));
    }
}

/// A cgroup with those below it.
fn remove(cgroup: &Path) {
    let Ok(below) = fs::read_dir(cgroup) else { return };
    below.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).for_each(|path| remove(&path));
    // One that is in use stays, and the next one to look finds it.
    let _ = fs::remove_dir(cgroup);
}

fn pods() -> Value {
    let page = fetch_at(&format!("127.0.0.1:{PORT}"), "/pods").unwrap_or_default();
    let body = page.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

#[test]
fn node_alone_runs_static_pods() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    isolate();
    let site = Site::start();
    let archive = image::busybox(site.dir.path(), IMAGE);
    site.image(&["import", &archive]);
    assert!(site.image(&["ls"]).contains(IMAGE));
    site.configure("");
    let refused = site.kubelet().stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("cannot use webhook authentication"), "{said}");
    site.configure("authentication: {webhook: {enabled: false}}\nauthorization: {mode: AlwaysAllow}\n");
    fs::create_dir(site.path("manifests")).unwrap();
    let manifest = site.path("manifests/web.yaml");
    fs::write(
        &manifest,
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: web\n    image: {IMAGE}\n    \
             command: [sh, -c, 'echo here > /index.html; exec httpd -f -h /']\n    \
             readinessProbe: {{httpGet: {{port: 80, path: /index.html}}, periodSeconds: 1}}\n"
        ),
    )
    .unwrap();
    let mut kubelet = Running(site.kubelet().spawn().unwrap());
    let (ip, container) = site.ready();
    assert!(ip.starts_with("10.99.7."), "{ip}");
    assert!(fetch_at(&ip, "/index.html").unwrap().ends_with("here\n"));
    assert!(fetch_at("127.0.0.1:10250", "/").is_none(), "enableServer is off");

    kubelet.0.kill().unwrap();
    kubelet.0.wait().unwrap();
    kubelet = Running(site.kubelet().spawn().unwrap());
    assert_eq!(site.ready(), (ip, container), "the pod went on");

    // The folder may go as a whole.
    fs::remove_dir_all(site.path("manifests")).unwrap();
    assert!(patiently(|| pods()["items"].as_array().is_some_and(Vec::is_empty)), "{}", site.log());
    drop(kubelet);
    assert!(!site.log().contains("ERROR"), "{}", site.log());
}
