use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::control_plane::{ControlPlane, Heir};
use crate::peer_runtime::{PeerRuntime, Program, unmount_below};
use crate::upstream::{self, Stand, Told};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Whether the test may make nodes.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The real kubectl.
pub fn kubectl() -> Command {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin/kubectl");
    Command::new(if own.exists() { own } else { PathBuf::from("kubectl") })
}

/// A cluster with a name and a directory of its own; gone, with everything it made, when dropped.
pub struct Cluster {
    name: String,
    dir: tempfile::TempDir,
    flags: Vec<String>,
    /// What runs its pods, where that is not our own runtime.
    runtimes: RefCell<Vec<PeerRuntime>>,
    /// What looks after its pods, where that is not our own kubelet.
    kubelets: RefCell<Vec<Stand>>,
    /// What is in the place of our server, if anything is.
    control_plane: RefCell<Option<ControlPlane>>,
}

impl Cluster {
    pub fn up(flags: &[&str]) -> Self {
        let cluster = Self::new(flags);
        cluster.again();
        cluster
    }

    /// The same after something was done for it: its names are known by then.
    pub fn up_after(flags: &[&str], prepare: impl FnOnce(&Self)) -> Self {
        let cluster = Self::new(flags);
        prepare(&cluster);
        cluster.again();
        cluster
    }

    fn new(flags: &[&str]) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{number}", std::process::id());
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self {
            name,
            dir: tempfile::tempdir().unwrap(),
            flags,
            runtimes: RefCell::default(),
            kubelets: RefCell::default(),
            control_plane: RefCell::default(),
        }
    }

    /// The same with so many nodes that run on another runtime.
    pub fn up_on(runtime: &Program, nodes: usize, flags: &[&str], prepare: impl FnOnce(&Self)) -> Self {
        let mut cluster = Self::new(flags);
        prepare(&cluster);
        let endpoint = format!("unix:///run/knarr/{}/nodes/{{node}}/runtime/cri.sock", cluster.name);
        cluster.flags.extend(["--container-runtime-endpoint".to_owned(), endpoint]);
        // It makes the nodes' namespaces, and then waits for their runtimes.
        let up = cluster.up_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for number in 1..=nodes {
            let node = format!("{}-{number}", cluster.name);
            let handlers = cluster.flags.iter().skip_while(|flag| *flag != "--runtime-handler").nth(1);
            let handlers: Vec<_> = handlers.iter().filter_map(|handler| handler.split_once('=')).collect();
            let started = PeerRuntime::start(runtime, (&cluster.name, &node), &cluster.data(), &handlers);
            cluster.runtimes.borrow_mut().push(started);
        }
        let output = up.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "knarr up: {said}\n{}", cluster.logs());
        cluster
    }

    /// Gives so many nodes upstream's kubelet.
    pub fn use_kubelet(&self, program: &Path, nodes: usize) {
        for number in 1..=nodes {
            let node = format!("{}-{number}", self.name);
            let kubelet = upstream::replace(program, (&self.name, &node), &self.data(), &self.told());
            self.kubelets.borrow_mut().push(kubelet);
        }
    }

    /// Ends those kubelets; the nodes' own come back.
    pub fn own_kubelets(&self) {
        self.kubelets.take();
        self.again();
    }

    /// What a kubelet by itself is told, as the agent would be.
    fn told(&self) -> Told {
        let after = |name: &str| self.flags.iter().skip_while(|flag| *flag != name).nth(1).map(PathBuf::from);
        Told {
            file: after("--kubelet-config"),
            folder: after("--kubelet-config-dir"),
            failpoints: self.failpoints(),
        }
    }

    /// Gives the cluster upstream's control plane. Its nodes have to be told.
    pub fn use_control_plane(&self, programs: &Path) {
        let heir = Heir {
            name: self.name.clone(),
            data: self.data(),
            kubeconfig: self.kubeconfig().into(),
            first_service: self.k("get service kubernetes -o jsonpath={.spec.clusterIP}"),
            pod_cidrs: self.k("get nodes -o jsonpath={.items[0].spec.podCIDRs[*]}"),
        };
        *self.control_plane.borrow_mut() = Some(ControlPlane::replace(programs, &heir));
        let answers = || self.try_kubectl(&["get", "serviceaccount", "default"]).is_ok();
        self.until("upstream's control plane", answers);
    }

    /// The nodes begin anew, with the agents that they have.
    pub fn restart_agents(&self, nodes: usize) {
        let run = Path::new("/run/knarr").join(&self.name);
        for number in 1..=nodes {
            upstream::end_by_record(&run.join(format!("agent-{}-{number}.json", self.name)));
        }
        self.again();
    }

    /// Waits until so many nodes are ready.
    pub fn nodes_are_ready(&self, nodes: usize) {
        self.becomes(
            "get nodes -o jsonpath='{.items[*].status.conditions[?(@.type==\"Ready\")].status}'",
            &vec!["True"; nodes].join(" "),
        );
    }

    /// Imports an archive into every node.
    pub fn import(&self, archive: &str) {
        let runtimes = self.runtimes.borrow();
        if runtimes.is_empty() {
            self.knarr(&["image", "import", archive]);
        }
        runtimes.iter().for_each(|runtime| runtime.import(archive));
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Where a node has its files.
    pub fn node_dir(&self, number: usize) -> PathBuf {
        self.data().join("nodes").join(format!("{}-{number}", self.name))
    }

    /// `knarr up`, for the first time or again. It finds what stands in the place of our own processes.
    pub fn again(&self) {
        if let Some(plane) = self.control_plane.borrow_mut().as_mut() {
            plane.revive();
        }
        self.kubelets.borrow_mut().iter_mut().for_each(Stand::revive);
        let output = self.up_command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "knarr up: {said}\n{}", self.logs());
    }

    pub fn up_command(&self) -> Command {
        let mut command = self.program();
        command.arg("up").arg("--name").arg(&self.name).arg("--data-dir").arg(self.data());
        command.args(["--port", "0"]).arg("--kubeconfig").arg(self.kubeconfig()).args(&self.flags);
        command
    }

    /// Where the places are named at which its processes are to die (`base::failpoint`).
    pub fn failpoints(&self) -> PathBuf {
        self.dir().join("failpoints")
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knarr"));
        command.env("KNARR_FAILPOINTS", self.failpoints());
        command
    }

    /// `knarr up` that is not waited for.
    pub fn begin_up(&self) -> std::process::Child {
        self.up_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub fn kubeconfig(&self) -> String {
        self.dir().join("kubeconfig").display().to_string()
    }

    /// Our own program, for this cluster.
    pub fn own_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command.args(arguments.first());
        command.arg("--name").arg(&self.name).arg("--data-dir").arg(self.data());
        command.args(arguments.get(1..).unwrap_or_default());
        command
    }

    pub fn run_knarr(&self, arguments: &[&str]) -> Output {
        self.own_command(arguments).output().unwrap()
    }

    pub fn knarr(&self, arguments: &[&str]) -> String {
        let output = self.run_knarr(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "knarr {arguments:?}: {said}\n{}", self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.data().join("logs")).into_iter().flatten();
        entries
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The log of one process.
    pub fn log(&self, process: &str) -> String {
        std::fs::read_to_string(self.data().join(format!("logs/{process}.log"))).unwrap()
    }

    fn run_kubectl(&self, arguments: &[&str]) -> Output {
        kubectl().arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).output().unwrap()
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.run_kubectl(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {said}\n{}", self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What kubectl prints, or what it complains of.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.run_kubectl(arguments);
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Whether the API server has such a resource.
    pub fn serves(&self, group_version: &str, resource: &str) -> bool {
        let list: serde_json::Value =
            serde_json::from_str(&self.kubectl(&["get", "--raw", &format!("/apis/{group_version}")]))
                .unwrap();
        list["resources"].as_array().unwrap().iter().any(|known| known["name"] == resource)
    }

    pub fn try_apply(&self, yaml: &str, flags: &[&str]) -> Result<(), String> {
        let path = self.dir().join("applied.yaml");
        std::fs::write(&path, yaml).unwrap();
        let path = path.display().to_string();
        let output = self.run_kubectl(&[&["apply", "-f", &path], flags].concat());
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn apply(&self, yaml: &str) {
        self.try_apply(yaml, &[]).unwrap();
    }

    /// Waits for something that comes true by itself.
    pub fn until(&self, what: &str, done: impl FnMut() -> bool) {
        assert!(patiently(done), "waited in vain for {what}\n{}", self.logs());
    }

    fn processes(&self) -> Vec<i32> {
        let status: serde_json::Value = serde_json::from_str(&self.knarr(&["status", "-o", "json"])).unwrap();
        let list = status["processes"].as_array().unwrap();
        let others = list.iter().filter(|process| process["components"][0] != "shim");
        others.map(|process| process["pid"].as_i64().unwrap() as i32).collect()
    }

    /// Kills every process of the cluster but the shims.
    pub fn kill(&self) {
        for pid in self.processes() {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        self.until("the processes to end", || self.processes().is_empty());
        // Upstream's kubelet gives up on a socket at which nobody listens, and waits for one that is not there.
        if self.runtimes.borrow().is_empty() {
            for node in std::fs::read_dir(Path::new("/run/knarr").join(&self.name).join("nodes"))
                .into_iter()
                .flatten()
            {
                let _ = std::fs::remove_file(node.unwrap().path().join("runtime/cri.sock"));
            }
        }
    }

    pub fn store_contains(&self, needle: &[u8]) -> bool {
        fn below(dir: &Path, needle: &[u8]) -> bool {
            std::fs::read_dir(dir).unwrap().filter_map(Result::ok).any(|entry| {
                let path = entry.path();
                match path.is_dir() {
                    true => below(&path, needle),
                    false => {
                        std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
                    }
                }
            })
        }
        below(&self.data().join("store"), needle)
    }

    /// `knarr down --purge`, and what is left afterwards: mounts, processes, directories.
    pub fn down(&self) -> Vec<String> {
        self.kubelets.take();
        self.control_plane.take();
        // Nobody else ends their pods.
        self.runtimes.take();
        let output = self.run_knarr(&["down", "--purge"]);
        let mut left = Vec::new();
        if !output.status.success() {
            left.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let data = self.data().display().to_string();
        let run = format!("/run/knarr/{}", self.name);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        left.extend(
            mounts.lines().filter(|line| line.contains(&data) || line.contains(&run)).map(str::to_owned),
        );
        left.extend([data, run].into_iter().filter(|path| Path::new(path).exists()));
        left
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let left = self.down();
        if !left.is_empty() {
            eprintln!("left behind: {left:?}");
        }
        // Where a test failed, kubelets that it started by themselves have left theirs.
        unmount_below(&[self.dir()], Path::new(""));
    }
}

/// Whether it comes true within a minute.
pub fn patiently(mut done: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !done() {
        if since.elapsed() > Duration::from_secs(60) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// The page at the root of a web server, of which address and perhaps port are given.
pub fn fetch(host: &str) -> Option<String> {
    fetch_at(host, "/index.html")
}

/// Any page of it.
pub fn fetch_at(host: &str, path: &str) -> Option<String> {
    let address = if host.contains("]:") || host.matches(':').count() == 1 {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let address = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}
