//! Upstream's control plane in the place of our server: the tests about nodes run below it when
//! `KNARR_E2E_CONTROL_PLANE` names the folder of `etcd`, `kube-apiserver`, `kube-controller-manager` and
//! `kube-scheduler`. The node then has our kubelet by itself, or the one that `KNARR_E2E_KUBELET` names; where a test is
//! about Services, their names or routes, it has our agent, whose they are.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use serde_json::{Value, json};

use crate::upstream::{Stand, end_by_record, read, until};

/// The folder of the programs, if they are wanted.
#[expect(clippy::disallowed_methods, reason = "this is how whoever runs the tests says so")]
pub fn wanted() -> Option<PathBuf> {
    std::env::var_os("KNARR_E2E_CONTROL_PLANE").map(PathBuf::from)
}

/// What a scheduler of v1.36 says of claims between why a pod waits and whether others make way for it: of one that would
/// have some, and of one that is given none. Since then none does.
pub fn of_claims() -> [&'static str; 2] {
    if wanted().is_some() { [" no new claims to deallocate,", " still not schedulable,"] } else { ["", ""] }
}

/// What a cluster's own server had, which the other one has to have as well.
pub struct Heir {
    pub name: String,
    pub data: PathBuf,
    /// As an administrator.
    pub kubeconfig: PathBuf,
    /// The address of the Service `kubernetes`.
    pub first_service: String,
    /// The ranges of one node's pods, of each family.
    pub pod_cidrs: String,
}

/// A control plane that runs; ended when dropped, the last program first.
pub struct ControlPlane {
    programs: Vec<Stand>,
    kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Ends the server, and starts the programs with its keys, where it listened. The store is empty.
    pub fn replace(programs: &Path, heir: &Heir) -> Self {
        let record = Path::new("/run/knarr").join(&heir.name).join("server.json");
        end_by_record(&record);
        let dir = heir.data.join("control-plane");
        fs::create_dir_all(&dir).unwrap();
        let mut plane = Self { programs: Vec::new(), kubeconfig: heir.kubeconfig.clone() };
        let (client, peer) = (free_url(), free_url());
        let etcd = [
            ("data-dir", dir.join("etcd").display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client.clone()),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("default={peer}")),
        ];
        let mut start = |name: &str, flags: &[(&str, String)], record| {
            let log = fs::File::create(heir.data.join(format!("logs/upstream-{name}.log"))).unwrap();
            let mut command = Command::new(programs.join(name));
            command.args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            plane.programs.push(Stand::start(command, record));
        };
        start("etcd", &etcd, None);
        let of = json!({"components": ["apiserver"], "node": null});
        start("kube-apiserver", &api_server(heir, &dir, &client), Some((record, of)));
        until("upstream's API server", || ready(&heir.kubeconfig));
        start("kube-controller-manager", &controller_manager(heir), None);
        let kubeconfig = heir.kubeconfig.display().to_string();
        let scheduler =
            [("kubeconfig", kubeconfig), ("leader-elect", "false".into()), ("secure-port", "0".into())];
        start("kube-scheduler", &scheduler, None);
        plane
    }

    /// Starts once more what has ended.
    pub fn revive(&mut self) {
        for program in &mut self.programs {
            program.revive();
        }
        until("upstream's API server", || ready(&self.kubeconfig));
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        while self.programs.pop().is_some() {}
    }
}

fn api_server(heir: &Heir, dir: &Path, etcd: &str) -> Vec<(&'static str, String)> {
    let admin: Value = config_view(&heir.kubeconfig);
    for (file, key) in [("admin.crt", "client-certificate-data"), ("admin.key", "client-key-data")] {
        let text = admin["users"][0]["user"][key].as_str().unwrap();
        fs::write(dir.join(file), base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap();
    }
    // That server takes no private key for a public one.
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-pubout", "-in"]).arg(heir.data.join("pki/sa.key"));
    assert!(openssl.arg("-out").arg(dir.join("sa.pub")).status().unwrap().success());
    let settings = read(&heir.data.join("cluster.json"));
    let pki = |file: &str| heir.data.join("pki").join(file).display().to_string();
    let own = |file: &str| dir.join(file).display().to_string();
    vec![
        ("etcd-servers", etcd.to_owned()),
        ("bind-address", "0.0.0.0".to_owned()),
        ("advertise-address", settings["advertise"].as_str().unwrap().to_owned()),
        ("secure-port", settings["port"].to_string()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("client-ca-file", pki("ca.crt")),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", own("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", services(heir)),
        ("kubelet-client-certificate", own("admin.crt")),
        ("kubelet-client-key", own("admin.key")),
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("cert-dir", own("certs")),
        ("feature-gates", gates()),
        ("runtime-config", "api/all=true".to_owned()),
    ]
}

/// What the tests are about beyond what is on there: alpha features, whose fields it would drop.
fn gates() -> String {
    "ClusterTrustBundle=true,ClusterTrustBundleProjection=true,PodCertificateRequest=true,ContainerStopSignals=true"
        .to_owned()
}

fn controller_manager(heir: &Heir) -> Vec<(&'static str, String)> {
    let pki = |file: &str| heir.data.join("pki").join(file).display().to_string();
    vec![
        ("kubeconfig", heir.kubeconfig.display().to_string()),
        ("service-account-private-key-file", pki("sa.key")),
        ("root-ca-file", pki("ca.crt")),
        ("cluster-signing-cert-file", pki("ca.crt")),
        ("cluster-signing-key-file", pki("ca.key")),
        ("use-service-account-credentials", "true".to_owned()),
        ("allocate-node-cidrs", "true".to_owned()),
        ("cluster-cidr", pods(heir)),
        ("service-cluster-ip-range", services(heir)),
        ("leader-elect", "false".to_owned()),
        ("secure-port", "0".to_owned()),
    ]
}

/// The ranges of all pods, of which each node has a part.
fn pods(heir: &Heir) -> String {
    let whole = |cidr: &str| match cidr.split_once("::") {
        Some((network, _)) => {
            let parts: Vec<&str> = network.split(':').take(3).collect();
            format!("{}::/48", parts.join(":"))
        }
        None => {
            let parts: Vec<&str> = cidr.split('.').take(2).collect();
            format!("{}.0.0/16", parts.join("."))
        }
    };
    heir.pod_cidrs.split(' ').map(whole).collect::<Vec<_>>().join(",")
}

fn services(heir: &Heir) -> String {
    format!("{}/24", heir.first_service.trim_end_matches(".1").to_owned() + ".0")
}

fn ready(kubeconfig: &Path) -> bool {
    let mut kubectl = crate::cluster::kubectl();
    kubectl.arg("--kubeconfig").arg(kubeconfig).args(["get", "--raw", "/readyz"]);
    kubectl.output().unwrap().status.success()
}

/// A kubeconfig is YAML, of which kubectl makes JSON.
fn config_view(kubeconfig: &Path) -> Value {
    let output = crate::cluster::kubectl()
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["config", "view", "--raw", "-o", "json"])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn free_url() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

/// Our own program as the kubelet of a name of its own.
pub fn own_kubelet(dir: &Path) -> PathBuf {
    let link = dir.join("kubelet");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_knarr"), &link).unwrap();
    }
    link
}
