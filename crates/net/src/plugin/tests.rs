//! As runtimes call it, in namespaces of their own.

use super::*;
use crate::testing::{Namespace, alone, block_on};

struct Runtime {
    dir: tempfile::TempDir,
    pod: Namespace,
}

impl Runtime {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), pod: Namespace::new() }
    }

    fn call(&self, command: &str, container: &str, extra: Value) -> Result<Option<Value>> {
        let call = Call {
            command: command.into(),
            container: container.into(),
            netns: self.pod.path().display().to_string(),
            interface: "eth0".into(),
        };
        let mut config = json!({"cniVersion": "1.1.0", "name": "n", "type": "knarr-cni",
            "podCIDRs": ["10.9.1.0/24", "fd00:9:1::/64"], "dataDir": self.dir.path()});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        block_on(run(&call, config.to_string().as_bytes()))
    }

    fn addresses(&self) -> Vec<String> {
        let found =
            self.pod.run(|| block_on(async { crate::link::Links::open().unwrap().addresses("eth0").await }));
        let found = found.unwrap_or_default().into_iter().map(|ip| ip.to_string());
        found.filter(|ip| !ip.starts_with("fe80")).collect()
    }
}

#[test]
fn a_pod_from_add_to_del() {
    alone(|| {
        let mut runtime = Runtime::new();
        runtime.call("STATUS", "", json!({})).unwrap();
        // Nothing is there yet: that is no error.
        assert_eq!(runtime.call("DEL", "c1", json!({})).unwrap(), None);
        let ports = json!({"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}});
        let result = runtime.call("ADD", "c1", ports.clone()).unwrap().unwrap();
        assert_eq!(result["ips"][0]["address"], "10.9.1.2/32");
        assert_eq!(result["interfaces"][1]["sandbox"], runtime.pod.path().display().to_string());
        assert_eq!(runtime.addresses(), ["10.9.1.2", "fd00:9:1::2"]);
        runtime.call("CHECK", "c1", ports.clone()).unwrap();
        let error = runtime.call("CHECK", "c1", json!({})).unwrap_err();
        assert_eq!(error.to_value()["code"], 100);
        // Another pod cannot have the same port, and gets nothing at all.
        let first = std::mem::replace(&mut runtime.pod, Namespace::new());
        let error = runtime.call("ADD", "c2", ports.clone()).unwrap_err();
        assert_eq!(error.to_value()["msg"], "host port 80/Tcp is taken by sandbox c1");
        assert_eq!(runtime.addresses(), Vec::<String>::new());
        runtime.pod = first;
        runtime
            .call("GC", "", json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}))
            .unwrap();
        runtime.call("CHECK", "c1", ports).unwrap();
        for _ in 0..2 {
            assert_eq!(runtime.call("DEL", "c1", json!({})).unwrap(), None);
        }
        assert_eq!(runtime.addresses(), Vec::<String>::new());
        let left = crate::leases::Leases::new(runtime.dir.path().join("n")).all().unwrap();
        assert_eq!(left, []);
    });
}

#[test]
fn loopback_is_brought_up() {
    alone(|| {
        let runtime = Runtime::new();
        let is_up = || {
            let flags =
                runtime.pod.run(|| std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap());
            flags.contains("127.0.0.1")
        };
        assert!(!is_up());
        let config = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"});
        let result = runtime.call("ADD", "c1", config.clone()).unwrap().unwrap();
        assert_eq!(result["interfaces"][0]["name"], "lo");
        assert_eq!(result["ips"][0], json!({"address": "127.0.0.1/8", "interface": 0, "version": "4"}));
        assert!(is_up());
        assert_eq!(runtime.addresses(), Vec::<String>::new());
        assert_eq!(runtime.call("DEL", "c1", config).unwrap(), None);
    });
}

#[test]
fn processes_at_once_do_not_meet() {
    alone(|| {
        let runtime = Runtime::new();
        let pods: Vec<Namespace> = (0..8).map(|_| Namespace::new()).collect();
        let mut given: Vec<String> = std::thread::scope(|scope| {
            let add = |(number, pod): (usize, &Namespace)| {
                let call = Call {
                    command: "ADD".into(),
                    container: format!("c{number}"),
                    netns: pod.path().display().to_string(),
                    interface: "eth0".into(),
                };
                let ports = json!([{"hostPort": 8000 + number, "containerPort": 80}]);
                let config = json!({"cniVersion": "1.0.0", "name": "n", "podCIDR": "10.9.1.0/24",
                    "dataDir": runtime.dir.path(), "runtimeConfig": {"portMappings": ports}});
                scope.spawn(move || block_on(run(&call, config.to_string().as_bytes())).unwrap().unwrap())
            };
            let threads: Vec<_> = pods.iter().enumerate().map(add).collect();
            let results = threads.into_iter().map(|thread| thread.join().unwrap());
            results.map(|result| result["ips"][0]["address"].to_string()).collect()
        });
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 8);
        let listed = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap().stdout;
        let listed = String::from_utf8(listed).unwrap();
        assert!((8000..8008).all(|port| listed.contains(&format!("tcp . {port} : 10.9.1."))), "{listed}");
    });
}

#[test]
fn what_was_left_is_collected() {
    alone(|| {
        let runtime = Runtime::new();
        runtime.call("ADD", "c1", json!({"cniVersion": "0.4.0"})).unwrap();
        runtime.call("GC", "", json!({})).unwrap_err();
        assert_eq!(runtime.addresses().len(), 2);
        runtime.call("GC", "", json!({"cni.dev/valid-attachments": []})).unwrap();
        assert_eq!(runtime.addresses().len(), 0);
    });
}

#[test]
fn errors_have_the_codes_of_the_specification() {
    let code = |call: &Call, config: Value| {
        block_on(run(call, config.to_string().as_bytes())).unwrap_err().to_value()["code"].clone()
    };
    let dir = tempfile::tempdir().unwrap();
    let add = Call { command: "ADD".into(), ..Call::default() };
    assert_eq!(code(&add, json!({"cniVersion": "0.2.0", "name": "n"})), 1);
    let config = json!({"cniVersion": "1.1.0", "name": "n", "dataDir": dir.path()});
    assert_eq!(code(&add, config.clone()), 4);
    assert_eq!(code(&add, json!("no object")), 6);
    assert_eq!(code(&Call { command: "STATUS".into(), ..Call::default() }, config), 50);
    let version = Call { command: "VERSION".into(), ..Call::default() };
    let answer = block_on(run(&version, b"{}")).unwrap().unwrap();
    assert_eq!(answer["supportedVersions"][4], "1.1.0");
}
