//! A runtime with its own folders, and what tests do with it again and again.

use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::{Random, Shutdown, SystemRandom};
use cri::v1::*;
use runtime::Config;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub const IMAGE: &str = "test.local/busybox:1";

/// A runtime that runs in this process, with everything below one folder.
pub struct Node {
    pub folder: TempDir,
    pub config: Config,
    pub runtime: cri::RuntimeClient,
    pub images: cri::ImageClient,
    task: JoinHandle<()>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// An entry of a layer.
pub enum Entry<'a> {
    File(&'a str, &'a [u8], u32),
    Folder(&'a str, u32),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, size, mode| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for entry in entries {
        match entry {
            Entry::File(path, bytes, mode) => {
                let mut header = header(tar::EntryType::Regular, bytes.len() as u64, *mode);
                tar.append_data(&mut header, path, *bytes).unwrap();
            }
            Entry::Folder(path, mode) => {
                tar.append_data(&mut header(tar::EntryType::Directory, 0, *mode), path, &[][..]).unwrap();
            }
            Entry::Symlink(path, target) => {
                tar.append_link(&mut header(tar::EntryType::Symlink, 0, 0o777), path, target).unwrap();
            }
            Entry::Hardlink(path, target) => {
                tar.append_link(&mut header(tar::EntryType::Link, 0, 0o644), path, target).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image: its blobs by digest, and the digest of its manifest.
pub struct Built {
    pub blobs: Vec<Vec<u8>>,
    pub manifest: String,
    pub layers: Vec<String>,
}

pub fn build(layers: &[Vec<u8>], config: serde_json::Value) -> Built {
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let diffs: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diffs},
    })
    .to_string()
    .into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": packed.iter().map(|layer| serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(layer), "size": layer.len(),
        })).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    let name = digest(&manifest);
    let layers = packed.iter().map(|layer| digest(layer)).collect();
    Built { blobs: packed.into_iter().chain([config, manifest]).collect(), manifest: name, layers }
}

impl Built {
    /// As an OCI layout in a tar.
    pub fn archive(&self, name: &str) -> Vec<u8> {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": self.manifest, "size": 1,
                "annotations": {"io.containerd.image.name": name},
            }],
        })
        .to_string();
        let paths: Vec<String> =
            self.blobs.iter().map(|blob| format!("blobs/{}", digest(blob).replace(':', "/"))).collect();
        let mut entries = vec![Entry::File("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)];
        entries.extend(paths.iter().zip(&self.blobs).map(|(path, blob)| Entry::File(path, blob, 0o644)));
        entries.push(Entry::File("index.json", index.as_bytes(), 0o644));
        layer(&entries)
    }
}

/// Busybox and two users.
pub fn busybox() -> Built {
    let program = fs::read("/bin/busybox").expect("these tests need Debian's busybox-static");
    let passwd = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    let group = b"root:x:0:\napp:x:1000:\nwheel:x:10:app\n";
    let mut entries = vec![
        Entry::Folder("bin", 0o755),
        Entry::Folder("etc", 0o755),
        Entry::Folder("tmp", 0o1777),
        Entry::Folder("root", 0o700),
        Entry::File("bin/busybox", &program, 0o755),
        Entry::File("etc/passwd", passwd, 0o644),
        Entry::File("etc/group", group, 0o644),
    ];
    let applets = [
        "sh", "echo", "cat", "sleep", "id", "ls", "stty", "nc", "kill", "hostname", "touch", "ps", "mount",
        "true", "false", "seq", "dd", "unshare", "grep",
    ];
    let links: Vec<String> = applets.iter().map(|applet| format!("bin/{applet}")).collect();
    entries.extend(links.iter().map(|link| Entry::Symlink(link, "busybox")));
    build(&[layer(&entries)], serde_json::json!({"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM=image"]}))
}

/// Waits for something to become true; what was last seen is in the failure.
pub async fn eventually<T: std::fmt::Debug, F: Future<Output = T>>(
    what: &str,
    mut look: impl FnMut() -> F,
    fits: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look().await;
        if fits(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve(config: &Config) -> (JoinHandle<()>, cri::RuntimeClient, cri::ImageClient) {
    let task = tokio::spawn({
        let config = config.clone();
        async move { runtime::run(config, Shutdown::new()).await.expect("the runtime runs") }
    });
    let endpoint = format!("unix://{}", config.socket.display());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match cri::connect(&endpoint).await {
            Ok((runtime, images)) => return (task, runtime, images),
            Err(error) => assert!(Instant::now() < deadline && !task.is_finished(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Node {
    /// With the busybox image.
    pub async fn new() -> Self {
        let node = Self::empty().await;
        node.import_busybox().await;
        node
    }

    pub async fn import_busybox(&self) {
        let archive = self.folder.path().join("busybox.tar");
        fs::write(&archive, busybox().archive(IMAGE)).unwrap();
        let names = runtime::import_client(&self.config.socket, &archive, |_| {}).await.unwrap();
        assert_eq!(names, [IMAGE]);
    }

    /// Without images.
    pub async fn empty() -> Self {
        Self::empty_with(|_| {}).await
    }

    /// Without images, and with settings of its own.
    pub async fn empty_with(settle: impl FnOnce(&mut Config)) -> Self {
        // Whoever looks for the reason of a failure sets RUST_LOG.
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        let folder = tempfile::Builder::new().prefix("knarr-cri-").tempdir().unwrap();
        let mut config = Config::new(folder.path().join("root"), folder.path().join("run"));
        config.cdi_dirs = vec![folder.path().join("cdi")];
        config.cgroup_parent = format!("/knarr-test-{}", SystemRandom.suffix(8));
        settle(&mut config);
        let (task, runtime, images) = serve(&config).await;
        Self { folder, config, runtime, images, task }
    }

    /// Drops the runtime as a crash would, and starts it again.
    pub async fn restart(&mut self) {
        self.stop_runtime().await;
        self.start_runtime().await;
    }

    pub async fn stop_runtime(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub async fn start_runtime(&mut self) {
        (self.task, self.runtime, self.images) = serve(&self.config).await;
    }

    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.folder.path().join("logs").join(name).display().to_string(),
            dns_config: Some(DnsConfig { servers: vec!["10.0.0.10".into()], ..DnsConfig::default() }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/{name}"),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    /// A container of its own pid namespace that runs a shell command.
    pub fn shell(name: &str, script: &str) -> ContainerConfig {
        let options = NamespaceOption { pid: NamespaceMode::Container as i32, ..NamespaceOption::default() };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..ImageSpec::default() }),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(options),
                    ..LinuxContainerSecurityContext::default()
                }),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
        }
    }

    pub async fn run_pod(&mut self, config: PodSandboxConfig) -> String {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Box::pin(self.runtime.run_pod_sandbox(request)).await.unwrap().into_inner().pod_sandbox_id
    }

    pub async fn try_run_pod(&mut self, config: PodSandboxConfig) -> Result<String, tonic::Status> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(Box::pin(self.runtime.run_pod_sandbox(request)).await?.into_inner().pod_sandbox_id)
    }

    pub async fn try_create(&mut self, pod: &str, config: ContainerConfig) -> Result<String, tonic::Status> {
        let request =
            CreateContainerRequest { pod_sandbox_id: pod.into(), config: Some(config), sandbox_config: None };
        Ok(Box::pin(self.runtime.create_container(request)).await?.into_inner().container_id)
    }

    pub async fn create(&mut self, pod: &str, config: ContainerConfig) -> String {
        let request =
            CreateContainerRequest { pod_sandbox_id: pod.into(), config: Some(config), sandbox_config: None };
        Box::pin(self.runtime.create_container(request)).await.unwrap().into_inner().container_id
    }

    pub async fn start(&mut self, id: &str) {
        self.runtime.start_container(StartContainerRequest { container_id: id.into() }).await.unwrap();
    }

    /// Makes and starts a container.
    pub async fn run(&mut self, pod: &str, config: ContainerConfig) -> String {
        let id = self.create(pod, config).await;
        self.start(&id).await;
        id
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.runtime.clone().container_status(request).await.unwrap().into_inner().status.unwrap()
    }

    /// The pid of a container's first process.
    pub async fn pid(&self, id: &str) -> i32 {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: true };
        let info = self.runtime.clone().container_status(request).await.unwrap().into_inner().info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        info["pid"].as_i64().unwrap() as i32
    }

    /// The pid of a pod's shim.
    pub async fn shim(&self, pod: &str) -> i32 {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: true };
        let info = self.runtime.clone().pod_sandbox_status(request).await.unwrap().into_inner().info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        info["pid"].as_i64().unwrap() as i32
    }

    pub async fn wait_exited(&self, id: &str) -> ContainerStatus {
        let exited = |status: &ContainerStatus| status.state() == ContainerState::ContainerExited;
        eventually("a container's end", || self.status(id), exited).await
    }

    pub async fn exec(&self, id: &str, args: &[&str]) -> ExecSyncResponse {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: args.iter().map(|s| s.to_string()).collect(),
            timeout: 20,
        };
        self.runtime.clone().exec_sync(request).await.unwrap().into_inner()
    }

    /// What a command in a container writes.
    pub async fn output(&self, id: &str, script: &str) -> String {
        let done = self.exec(id, &["sh", "-c", script]).await;
        assert_eq!(done.exit_code, 0, "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs a script to its end and gives what it wrote.
    pub async fn script(&mut self, pod: &str, config: ContainerConfig) -> (i32, String) {
        let id = self.run(pod, config).await;
        let status = self.wait_exited(&id).await;
        (status.exit_code, texts(Path::new(&status.log_path)))
    }

    pub async fn remove_pod(&mut self, id: &str) {
        self.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.into() }).await.unwrap();
        self.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.into() }).await.unwrap();
    }

    /// Removes every pod, and checks that nothing is left of any.
    pub async fn finish(mut self) {
        let pods =
            self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
        for pod in pods {
            self.remove_pod(&pod.id).await;
        }
        assert_eq!(self.mounts(), Vec::<PathBuf>::new(), "mounts are left");
        for folder in ["root/sandboxes", "root/containers", "run/sandboxes", "run/containers", "run/launcher"]
        {
            let left: Vec<_> = fs::read_dir(self.folder.path().join(folder)).unwrap().collect();
            assert!(left.is_empty(), "{folder} still has {left:?}");
        }
        for folder in self.cgroups() {
            // The pods' own cgroups are a kubelet's; what the runtime made below them is gone.
            let deepest = folder.strip_prefix("/sys/fs/cgroup").unwrap().components().count();
            assert!(deepest <= 4, "cgroup {} is left", folder.display());
        }
    }

    pub fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let paths = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        paths.filter(|path| path.starts_with(self.folder.path())).collect()
    }

    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let name = self.config.cgroup_parent.trim_start_matches('/');
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots
            .extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()));
        let mut folders: Vec<_> =
            roots.into_iter().map(|root| root.join(name)).filter(|path| path.is_dir()).collect();
        while let Some(folder) = folders.pop() {
            folders.extend(
                fs::read_dir(&folder)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|e| e.path())
                    .filter(|p| p.is_dir()),
            );
            found.push(folder);
        }
        found
    }
}

/// What a record of the runtime says.
pub fn record(folder: &Path) -> serde_json::Value {
    let text = fs::read_to_string(folder.join("state.json")).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

/// What a log says, without times and streams.
pub fn texts(log: &Path) -> String {
    let lines = fs::read_to_string(log).unwrap_or_default();
    let text = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    lines.lines().map(text).collect::<Vec<_>>().join("\n")
}

impl Drop for Node {
    /// Whatever a test left: its processes, its mounts, its cgroups.
    fn drop(&mut self) {
        self.task.abort();
        for kind in ["containers", "sandboxes"] {
            let folder = self.config.root.join(kind);
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(text) = fs::read_to_string(entry.path().join("state.json")) else { continue };
                let Ok(state) =
                    serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap_or_default())
                else {
                    continue;
                };
                for place in ["/phase/Running/process", "/shim", "/pid_init"] {
                    if let Some(process) = state.pointer(place) {
                        kill(process);
                    }
                }
            }
        }
        for mount in self.mounts().into_iter().rev() {
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.cgroups().is_empty() && Instant::now() < deadline {
            for folder in self.cgroups().into_iter().rev() {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// Kills a process that a record names, if it is still the same one.
fn kill(process: &serde_json::Value) {
    let (Some(pid), Some(start)) = (process["pid"].as_i64(), process["start_time"].as_i64()) else { return };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let same = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19))
        == Some(&start.to_string());
    if same {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    }
}
