//! Figures, for whoever asks for them: `cargo test -p runtime -- --ignored --nocapture measure`.

use std::time::{Duration, Instant};

use crate::node::Node;

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "{what}: p50 {:.1} ms, p90 {:.1} ms, max {:.1} ms of {}",
        at(0.5),
        at(0.9),
        at(1.0),
        times.len()
    );
}

fn smaps(pid: i32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, asserts nothing"]
async fn measure() {
    let mut node = Node::new().await;
    let (mut pods, mut all, mut starts, mut execs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut sandboxes = Vec::new();
    for i in 0..30 {
        let begin = Instant::now();
        let pod = node.run_pod(node.pod(&format!("m{i}"))).await;
        sandboxes.push(begin.elapsed());
        let id = node.create(&pod, Node::shell("c", "sleep 1000")).await;
        let start = Instant::now();
        node.start(&id).await;
        starts.push(start.elapsed());
        all.push(begin.elapsed());
        let exec = Instant::now();
        node.exec(&id, &["true"]).await;
        execs.push(exec.elapsed());
        pods.push((pod, id));
    }
    show("run sandbox", sandboxes);
    show("start container", starts);
    show("sandbox and container", all);
    show("exec sync", execs);
    let (mut pss, mut private) = (Vec::new(), Vec::new());
    for (pod, _) in &pods {
        let pid = node.shim(pod).await;
        pss.push(smaps(pid, "Pss:"));
        private.push(smaps(pid, "Private_Dirty:") + smaps(pid, "Private_Clean:"));
    }
    pss.sort_unstable();
    private.sort_unstable();
    println!("shim: PSS median {} KiB, private median {} KiB, of {}", pss[15], private[15], pss.len());
    let mut after_idle = Vec::new();
    for i in 0..5 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begin = Instant::now();
        let pod = node.run_pod(node.pod(&format!("idle{i}"))).await;
        node.run(&pod, Node::shell("c", "sleep 1000")).await;
        after_idle.push(begin.elapsed());
    }
    show("sandbox and container after 2 s of idleness", after_idle);
    let removal = Instant::now();
    node.finish().await;
    println!("removal of 35 pods: {:.0} ms", removal.elapsed().as_secs_f64() * 1000.0);
}
