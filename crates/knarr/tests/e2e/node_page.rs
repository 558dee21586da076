//! Static pods of a page (`staticPodURL`): a server in the node's own network has it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use nix::sched::{CloneFlags, setns};

use crate::cluster::Cluster;
use crate::node_pods::node_told;

const CONFIGURATION: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
    staticPodURL: http://127.0.0.1:8099/pods\nstaticPodURLHeader: {X-Node: [mine]}\nhttpCheckFrequency: 1s\n";
const PODS: &str = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: paged}\n  spec:\n    \
    terminationGracePeriodSeconds: 0\n    containers:\n    - name: c\n      \
    image: docker.io/library/busybox:test\n      imagePullPolicy: IfNotPresent\n      command: [sleep, '7777']\n";

/// What is served, or nothing but errors; and what was asked.
#[derive(Default)]
struct Page {
    text: Option<String>,
    requests: Vec<String>,
}

/// Serves a page at the first node's loopback address.
fn serve(cluster: &Cluster) -> Arc<Mutex<Page>> {
    let name = cluster.name();
    let netns = File::open(format!("/run/knarr/{name}/nodes/{name}-1/netns")).unwrap();
    let inside = std::thread::spawn(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind("127.0.0.1:8099").unwrap()
    });
    let (listener, page) = (inside.join().unwrap(), Arc::new(Mutex::new(Page::default())));
    let served = page.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            // Whoever asks may be killed meanwhile.
            let length = stream.read(&mut request).unwrap_or(0);
            let mut page = served.lock().unwrap();
            page.requests.push(String::from_utf8_lossy(&request[..length]).to_lowercase());
            let (status, body) = match &page.text {
                Some(text) => ("200 OK", text.as_str()),
                None => ("503 Service Unavailable", ""),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    page
}

#[test]
fn node_runs_the_pods_of_a_page() {
    let Some((cluster, _folder)) = node_told(CONFIGURATION) else { return };
    let page = serve(&cluster);
    let asked = |times: usize| {
        page.lock().unwrap().requests.clear();
        cluster.until("the page to be read", || page.lock().unwrap().requests.len() >= times);
    };
    asked(2);
    page.lock().unwrap().text = Some(PODS.to_owned());
    let get =
        |path: &str| format!("get pod paged-{}-1 --ignore-not-found -o jsonpath={path}", cluster.name());
    cluster.becomes(&get("{.status.phase}"), "Running");
    assert_eq!(cluster.k(&get("{.metadata.annotations.kubernetes\\.io/config\\.source}")), "http");
    let first = page.lock().unwrap().requests[0].clone();
    assert!(first.starts_with("get /pods ") && first.contains("x-node: mine"), "{first}");
    let container =
        get("'{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}'");
    let before = cluster.k(&container);

    // A kubelet that does not know yet what the page says takes nothing to be nobody's.
    page.lock().unwrap().text = None;
    cluster.kill();
    cluster.again();
    asked(15);
    page.lock().unwrap().text = Some(PODS.to_owned());
    asked(2);
    cluster.nodes_are_ready(1);
    assert_eq!(cluster.k(&container), before);
    page.lock().unwrap().text = Some("{apiVersion: v1, kind: PodList, items: [}".to_owned());
    asked(2);
    assert_eq!(cluster.k(&container), before, "what cannot be read is not empty");
    page.lock().unwrap().text = Some(r#"{"apiVersion": "v1", "kind": "PodList", "items": []}"#.to_owned());
    cluster.becomes(&get("{.metadata.name}"), "");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
