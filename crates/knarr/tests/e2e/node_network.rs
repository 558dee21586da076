//! Services, names and pods across two nodes.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, is_root};
use crate::node_pods::nodes_with_services;
use crate::peer_runtime;

#[test]
fn clusters_that_come_up_at_once_have_networks_of_their_own() {
    if !is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    // Each is ready only if its nodes reach their own API server.
    let started: Vec<_> = (0..3).map(|_| std::thread::spawn(|| Cluster::up(&["--nodes", "1"]))).collect();
    let clusters: Vec<Cluster> = started.into_iter().map(|cluster| cluster.join().unwrap()).collect();
    let address = "get nodes -o jsonpath='{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}'";
    let addresses: BTreeSet<String> = clusters.iter().map(|cluster| cluster.k(address)).collect();
    assert_eq!(addresses.len(), clusters.len(), "{addresses:?}");
    let [cluster, ..] = clusters.as_slice() else { panic!("{addresses:?}") };
    nodes_come_and_go(cluster);
}

/// A cluster gets more nodes and fewer while it runs. Nothing needs an image for that.
fn nodes_come_and_go(cluster: &Cluster) {
    let up = |flags: &[&str]| {
        let kubeconfig = cluster.kubeconfig();
        cluster.run_knarr(&[&["up", "--kubeconfig", &kubeconfig], flags].concat())
    };
    let done = |flags: &[&str]| {
        let output = up(flags);
        assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["--nodes", "2"]);
    cluster.nodes_are_ready(2);
    let (first, second) = (format!("{}-1", cluster.name()), format!("{}-2", cluster.name()));
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: there}}\nspec: {{nodeName: {second}, containers: [{{name: c, image: registry.invalid/i}}]}}"
    );
    cluster.write("there.yaml", &pod);
    cluster.until("the account that pods have", || {
        cluster.try_kubectl(&["get", "serviceaccount", "default"]).is_ok()
    });
    cluster.k("apply -f there.yaml");
    let refused = up(&["--nodes", "1", "--max-pods", "7"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--max-pods cannot be changed"), "{said}");
    done(&["--nodes", "1"]);
    cluster.refuses("get pod there", "pods \"there\" not found");
    assert_eq!(cluster.k("get nodes -o jsonpath={.items[*].metadata.name}"), first);
    assert!(!cluster.node_dir(2).exists(), "what the node had is gone");
    // A node that somebody deletes does not come back by itself, and does with the next `up`.
    cluster.k(&format!("delete node {first}"));
    let refused = up(&["--nodes", "0"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("keeps at least one node"));
    cluster.refuses(&format!("get node {first}"), "not found");
    done(&[]);
    cluster.nodes_are_ready(1);
}

#[test]
fn services_names_and_pods_across_nodes() {
    let Some(cluster) = nodes_with_services(&["--nodes", "2"]) else { return };
    cluster.write("network.yaml", &include_str!("manifests/network.yaml").replace("@NAME@", cluster.name()));
    cluster.k("apply -f network.yaml");
    cluster.k("wait --for=condition=Ready pod --all --timeout=60s");
    cluster.becomes("get endpointslices -l kubernetes.io/service-name=web -o jsonpath='{.items[*].endpoints[*].conditions.ready}'", "true true");
    cluster.shows(&get("web 80"), "web-");
    pods(&cluster);
    host_ports(&cluster);
    services(&cluster);
    names(&cluster);
    nobody(&cluster);
}

#[test]
fn pods_of_both_families() {
    let Some(cluster) = nodes_with_services(&["--nodes", "2", "--dual-stack"]) else { return };
    cluster.write("dual.yaml", &include_str!("manifests/dual.yaml").replace("@NAME@", cluster.name()));
    cluster.k("apply -f dual.yaml");
    cluster.k("wait --for=condition=Ready pod --all --timeout=60s");
    let list = |what: &str| cluster.k(what).split(' ').map(str::to_owned).collect::<Vec<_>>();
    let nodes = list("get pod web -o jsonpath={.status.hostIPs[*].ip}");
    let (web, client) = (
        list("get pod web -o jsonpath={.status.podIPs[*].ip}"),
        list("get pod client -o jsonpath={.status.podIPs[*].ip}"),
    );
    assert_eq!(
        cluster.k("exec web -- sh -c 'echo $PODS $HOSTS'").trim(),
        format!("{} {}", web.join(","), nodes.join(","))
    );
    let hosts = cluster.k("exec web -- cat /etc/hosts");
    assert!(web.iter().all(|ip| hosts.contains(&format!("{ip}\tweb\n"))), "{hosts}");
    // On another node, by each family: the pod itself, and its node's port. What is no pod, pods reach as their node.
    let from = list("get pod client -o jsonpath={.status.hostIPs[*].ip}");
    for family in [0, 1] {
        // CRI-O leads to host ports itself, and hides who asks.
        let asked = [(&web, 8080, &client), (&nodes, 8085, &from)];
        for (host, port, known) in &asked[..if peer_runtime::is_crio() { 1 } else { 2 }] {
            let (host, known) = (&host[family], &known[family]);
            let seen = cluster.k(&get(&format!("{host} {port} /cgi-bin/me")));
            assert!(seen.contains(&format!("{known}]")), "{host}: {seen} is not {known}");
        }
    }
    if peer_runtime::is_crio() {
        return;
    }
    // Clients outside of the cluster are seen as they are.
    let page = crate::cluster::fetch_at(&format!("[{}]:8085", nodes[1]), "/cgi-bin/me").unwrap();
    let machine = format!("{}::1]", nodes[1].split_once("::").unwrap().0);
    assert!(page.contains(&machine), "{page} is not {machine}");
}

/// Fetches a page from inside a pod; `what` is a host, a port and perhaps a path.
fn get(what: &str) -> String {
    format!("exec client -- timeout 5 get {what}")
}

fn pods(cluster: &Cluster) {
    let nodes = cluster.k("get pods web-1 web-2 -o jsonpath='{.items[*].spec.nodeName}'");
    assert_eq!(nodes.split(' ').collect::<BTreeSet<_>>().len(), 2, "{nodes}");
    let own = cluster.k("get pod client -o jsonpath={.status.podIP}");
    for name in ["web-1", "web-2"] {
        let ip = cluster.k(&format!("get pod {name} -o jsonpath={{.status.podIP}}"));
        assert_eq!(cluster.k(&get(&format!("{ip} 8080"))), format!("{name}\n"));
        // The one that is asked sees who asks, on another node as well.
        let seen = cluster.k(&get(&format!("{ip} 8080 /cgi-bin/me")));
        assert!(seen.contains(&own), "{seen} is not {own}");
    }
}

/// Whoever asks a node's port is seen as who they are, from outside as well, with Services' rules beside.
fn host_ports(cluster: &Cluster) {
    let node = cluster.k("get pod web-1 -o jsonpath={.status.hostIP}");
    let own = cluster.k("get pod client -o jsonpath={.status.podIP}");
    let seen = cluster.k(&get(&format!("{node} 8085 /cgi-bin/me")));
    // It leads to them itself, and hides some of those who ask.
    if peer_runtime::is_crio() {
        return;
    }
    assert!(seen.contains(&own), "{seen} is not {own}");
    let machine = format!("{}.1", node.rsplit_once('.').unwrap().0);
    let page = crate::cluster::fetch_at(&format!("{node}:8085"), "/cgi-bin/me").unwrap();
    // The bracket tells it from the node itself, whose address begins the same.
    assert!(page.contains(&format!("{machine}]")), "{page} is not {machine}");
}

fn answers(cluster: &Cluster, url: &str) -> BTreeSet<String> {
    (0..24).map(|_| cluster.k(&get(url)).trim().to_owned()).collect()
}

fn services(cluster: &Cluster) {
    assert_eq!(answers(cluster, "web 80").len(), 2, "both pods take their share");
    assert_eq!(answers(cluster, "sticky 80").len(), 1, "a client stays with its pod");
    let port = cluster.k("get service outside -o jsonpath={.spec.ports[0].nodePort}");
    let addresses =
        cluster.k("get nodes -o jsonpath='{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}'");
    for address in addresses.split(' ') {
        let page = crate::cluster::fetch(&format!("{address}:{port}")).unwrap();
        assert!(page.contains("web-"), "{address}: {page}");
    }
    let ip = cluster.k("get service web -o jsonpath={.spec.clusterIP}");
    assert!(crate::cluster::fetch(&format!("{ip}:80")).unwrap().contains("web-"), "from the machine itself");
    // A pod reaches itself by its Service.
    let own = (0..12).map(|_| cluster.k("exec web-1 -- timeout 5 get web 80")).collect::<BTreeSet<_>>();
    assert_eq!(own.len(), 2, "{own:?}");
}

fn names(cluster: &Cluster) {
    let resolv = cluster.k("exec client -- cat /etc/resolv.conf");
    let first = cluster.k("get service kubernetes -o jsonpath={.spec.clusterIP}");
    let search = "search default.svc.cluster.local svc.cluster.local cluster.local";
    assert_eq!(resolv, format!("{search}\nnameserver {first}0\noptions ndots:5\n"));
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"] {
        assert!(cluster.k(&get(&format!("{name} 80"))).starts_with("web-"), "{name}");
    }
    assert_eq!(cluster.k(&get("web-2.heads 8080")), "web-2\n");
    assert!(cluster.k(&get("alias.far 80")).starts_with("web-"), "another name is followed");
    let lookup = |name: &str| cluster.k(&format!("exec client -- nslookup {name}.cluster.local"));
    let heads = lookup("heads.default.svc");
    for name in ["web-1", "web-2"] {
        let ip = cluster.k(&format!("get pod {name} -o jsonpath={{.status.podIP}}"));
        assert!(heads.contains(&format!("Address: {ip}\n")), "{heads}");
    }
    let service = cluster.k("exec client -- nslookup -type=srv _http._tcp.heads.default.svc.cluster.local");
    assert!(
        service.contains("8080 web-1.heads.default.svc.cluster.local") && service.contains("8080 web-2."),
        "{service}"
    );
    assert!(lookup("alias.far.svc").contains("canonical name = web.default.svc.cluster.local"));
    cluster.refuses("exec client -- nslookup nope.default.svc.cluster.local", "NXDOMAIN");
    cluster.refuses(&get("nope 80"), "nope: ");
    assert!(
        cluster.k("exec web-1 -- cat /etc/hosts").contains("web-1.heads.default.svc.cluster.local\tweb-1")
    );
}

fn nobody(cluster: &Cluster) {
    cluster.refuses(&get("empty 80"), "Connection refused");
    cluster.refuses(&get("web 81"), "Connection refused");
    let ip = cluster.k("get service empty -o jsonpath={.spec.clusterIP}");
    let port = cluster.k("get service empty -o jsonpath={.spec.ports[0].nodePort}");
    let node =
        cluster.k("get nodes -o jsonpath='{.items[0].status.addresses[?(@.type==\"InternalIP\")].address}'");
    let since = std::time::Instant::now();
    for address in [format!("{ip}:80"), format!("{node}:{port}")] {
        for _ in 0..5 {
            let error = std::net::TcpStream::connect_timeout(
                &address.parse().unwrap(),
                std::time::Duration::from_secs(3),
            )
            .unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
        }
    }
    assert!(since.elapsed().as_secs() < 2, "refusals are told at once");
}
