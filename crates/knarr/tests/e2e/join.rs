//! Machines that join: `knarr server` here, `knarr agent` on a machine of its own (a network namespace).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::image;

const KNARR: &str = env!("CARGO_BIN_EXE_knarr");

/// A machine on a link of its own, gone when dropped.
struct Machine(String);

impl Machine {
    /// `number` makes its network: 172.31.NUMBER.1 is this side, 172.31.NUMBER.2 the machine.
    fn new(number: u32) -> Self {
        let name = format!("knj{}-{number}", std::process::id() % 100_000);
        let machine = Self(name.clone());
        ip(&["netns", "add", &name]);
        ip(&["link", "add", &format!("{name}a"), "type", "veth", "peer", "name", "eth0", "netns", &name]);
        ip(&["addr", "add", &format!("172.31.{number}.1/24"), "dev", &format!("{name}a")]);
        ip(&["link", "set", &format!("{name}a"), "up"]);
        ip(&["-n", &name, "addr", "add", &format!("172.31.{number}.2/24"), "dev", "eth0"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        machine
    }

    /// It has another address from now on.
    fn moves(&self, number: u32) {
        for (verb, last) in [("del", 2), ("add", 3)] {
            ip(&["-n", &self.0, "addr", verb, &format!("172.31.{number}.{last}/24"), "dev", "eth0"]);
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.0)).arg(KNARR);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A process that is ended when dropped.
struct Running(Child, PathBuf);

impl Running {
    fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self(command.spawn().unwrap(), log.to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap()
    }

    fn end(&mut self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, signal);
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(nix::sys::signal::Signal::SIGTERM);
    }
}

struct Site {
    dir: tempfile::TempDir,
    name: String,
    port: u16,
    network: u32,
    /// The last number of the server's address.
    host: u8,
}

impl Site {
    fn server_ip(&self) -> String {
        format!("172.31.{}.{}", self.network, self.host)
    }

    fn server(&self) -> Running {
        let mut server = Command::new(KNARR);
        server.args(["server", "--name", &format!("{}server", self.name), "--advertise-address"]);
        server.args([&self.server_ip(), "--port", &self.port.to_string(), "--data-dir"]);
        server.arg(self.path("server"));
        Running::start(server, &self.path("server.log"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn knarr(&self, data: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(KNARR);
        command.args(arguments).args(["--name", &format!("{}{data}", self.name), "--data-dir"]);
        command.arg(self.path(data)).output().unwrap()
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        crate::cluster::kubectl()
            .arg("--kubeconfig")
            .arg(self.path("server/admin.kubeconfig"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn agent(&self, machine: &Machine, token: Option<&str>) -> Command {
        let mut command = machine.command();
        command.args(["agent", "--node-name", "m1", "--name", &format!("{}agent", self.name), "--data-dir"]);
        command
            .arg(self.path("agent"))
            .args(["--server", &format!("https://{}:{}", self.server_ip(), self.port)]);
        if let Some(token) = token {
            command.args(["--token", token]);
        }
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for data in ["agent", "server"] {
            let output = self.knarr(data, &["down", "--purge"]);
            if !output.status.success() {
                eprintln!("left behind: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

fn until(what: &str, logs: &[&Running], mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        if since.elapsed() > Duration::from_secs(60) {
            let logs: Vec<String> = logs.iter().map(|process| process.log()).collect();
            panic!("waited in vain for {what}\n{}", logs.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_machine_joins_with_a_token_and_comes_back_without_one() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let number = 20 + std::process::id() % 200;
    let machine = Machine::new(number);
    let mut site = Site {
        dir: tempfile::tempdir().unwrap(),
        name: format!("join{}", std::process::id()),
        port,
        network: number,
        host: 1,
    };
    let mut server = site.server();
    let mut token = String::new();
    until("a token", &[&server], || {
        let output = site.knarr("server", &["token", "create", "--quiet"]);
        token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        output.status.success()
    });

    // Somebody who poses as the cluster is not trusted: the token names its authority.
    let forged = format!("{}.{}", token.rsplit_once('.').unwrap().0, "0".repeat(64));
    let refused = site.agent(&machine, Some(&forged)).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is not the cluster that the token is of"), "{said}");
    let unknown = format!("zzzzzz.{}", token.split_once('.').unwrap().1);
    let refused = site.agent(&machine, Some(&unknown)).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("does not know the token, or it has expired"),
        "{said}"
    );
    let none = site.agent(&machine, None).output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(!none.status.success() && said.contains("knarr token create"), "{said}");

    let mut agent = Running::start(site.agent(&machine, Some(&token)), &site.path("agent.log"));
    let ready = ["wait", "--for=condition=Ready", "node/m1", "--timeout=1s"];
    until("the node", &[&server, &agent], || site.kubectl(&ready).status.success());
    let requests = site.said(&["get", "csr"]);
    assert_eq!(requests.matches("Approved,Issued").count(), 2, "{requests}");
    let address = "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}";
    assert_eq!(site.said(&["get", "node", "m1", "-o", address]), format!("172.31.{number}.2"));

    let archive = image::busybox(site.dir.path(), "docker.io/library/busybox:test");
    let imported = site.knarr("agent", &["image", "import", &archive]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let run = [
        "run",
        "p",
        "--image=docker.io/library/busybox:test",
        "--",
        "sh",
        "-c",
        "echo begun; exec busybox sleep 1000",
    ];
    assert!(site.kubectl(&run).status.success());
    let pod = ["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"];
    assert!(site.kubectl(&pod).status.success(), "{}\n{}", site.said(&["describe", "pod", "p"]), agent.log());
    assert_eq!(site.said(&["logs", "p"]), "begun\n");
    assert_eq!(site.said(&["exec", "p", "--", "sh", "-c", "echo inside"]), "inside\n");

    // The node is known now: it comes back by itself, at another address, and its pods were never gone.
    let container = ["get", "pod", "p", "-o", "jsonpath={.status.containerStatuses[0].containerID}"];
    let before = site.said(&container);
    agent.end(nix::sys::signal::Signal::SIGKILL);
    machine.moves(number);
    let again = Running::start(site.agent(&machine, None), &site.path("agent.log"));
    until("the node to answer again", &[&server, &again], || {
        site.said(&["exec", "p", "--", "sh", "-c", "echo again"]) == "again\n"
    });
    assert_eq!(site.said(&container), before);
    assert_eq!(site.said(&["get", "node", "m1", "-o", address]), format!("172.31.{number}.3"));
    drop((again, agent));

    // The server may move as well; nodes are told where it is now.
    server.end(nix::sys::signal::Signal::SIGTERM);
    ip(&["addr", "add", &format!("172.31.{number}.9/24"), "dev", &format!("{}a", machine.0)]);
    site.host = 9;
    server = site.server();
    let agent = Running::start(site.agent(&machine, None), &site.path("agent.log"));
    until("the node to find the server that moved", &[&server, &agent], || {
        site.said(&["exec", "p", "--", "sh", "-c", "echo found"]) == "found\n"
    });
    assert_eq!(site.said(&container), before);
    drop(agent);
    a_kubelet_bootstraps(&site, &server, &token);
    drop(server);
}

/// A kubelet by itself, with nothing but a bootstrap kubeconfig, writes down who it has become. It needs no runtime
/// for that.
fn a_kubelet_bootstraps(site: &Site, server: &Running, token: &str) {
    let (bootstrap, own) = (site.path("bootstrap.conf"), site.path("kubelet.conf"));
    let admin = std::fs::read_to_string(site.path("server/admin.kubeconfig")).unwrap();
    let cut = admin.find("    client-certificate-data:").unwrap();
    let rest = admin[cut..].find("contexts:").map_or("", |at| &admin[cut + at..]);
    let bearer = token.rsplit_once('.').unwrap().0;
    std::fs::write(&bootstrap, format!("{}    token: {bearer}\n{rest}", &admin[..cut])).unwrap();
    let start = || {
        let mut command = Command::new(KNARR);
        command.args([
            "kubelet",
            "--hostname-override",
            "k1",
            "--fail-swap-on=false",
            "--rotate-certificates",
        ]);
        command.args(["--container-runtime-endpoint", "unix:///nowhere", "--address", "127.0.0.1"]);
        command.args(["--healthz-port", "0", "--pod-logs-dir"]).arg(site.path("logs"));
        for (flag, path) in [("--bootstrap-kubeconfig", &bootstrap), ("--kubeconfig", &own)] {
            command.arg(flag).arg(path);
        }
        command.arg("--root-dir").arg(site.path("kubelet"));
        Running::start(command, &site.path("kubelet.log"))
    };
    let mut kubelet = start();
    let pem = site.path("kubelet/pki/kubelet-client-current.pem");
    until("a certificate", &[server, &kubelet], || pem.exists());
    let is_known = |kubelet: &Running| {
        let whoami = crate::cluster::kubectl()
            .arg("--kubeconfig")
            .arg(&own)
            .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&whoami.stdout).into_owned();
        let is_node = said.starts_with("system:node:k1 ") && said.contains("system:nodes");
        assert!(is_node, "{said}\n{}", kubelet.log());
    };
    is_known(&kubelet);

    // A node that was off for so long that its certificate has ended gets another one in the same way.
    kubelet.end(nix::sys::signal::Signal::SIGKILL);
    let year = Duration::from_secs(365 * 24 * 3600);
    let ended =
        auth::pki::join::self_signed("system:node:k1", &[], jiff::Timestamp::UNIX_EPOCH, year).unwrap();
    let ended = format!("{}{}", ended.cert_pem, ended.key_pem);
    std::fs::write(&pem, &ended).unwrap();
    let again = start();
    until("another certificate", &[server, &again], || std::fs::read_to_string(&pem).unwrap() != ended);
    is_known(&again);
}
