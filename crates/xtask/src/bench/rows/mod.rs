//! The rows: each what the design has a budget for.

mod bind;
mod clean;
mod control;
mod idle;
mod memory;
mod pods;
mod reads;
mod watches;
mod writes;

use anyhow::Result;
use async_trait::async_trait;

use super::Bench;
use super::load::Seen;
use super::process::Usage;
use super::table::{Limit, Sample};
use super::target::Target;
use Limit::{AtLeast, AtMost};
use writes::{Kind, Verb};

/// Processor time for one operation.
pub(super) const CPU: &str = "cpu ms/op";
/// Operations per second.
pub(super) const RATE: &str = "ops/s";
/// Half are faster.
pub(super) const P50: &str = "p50 ms";
/// All but one of a hundred are faster.
pub(super) const P99: &str = "p99 ms";

/// What a row needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Any API server.
    Api,
    /// An API server and a scheduler.
    Scheduler,
    /// A control plane of our own.
    Own,
    /// A cluster of our own with a node.
    Node,
}

/// How a row is measured. Nothing is kept here between rounds but in the servers.
#[async_trait(?Send)]
pub(super) trait Measure {
    /// Before the first round.
    async fn prepare(&self, _: &Target) -> Result<()> {
        Ok(())
    }

    /// A round.
    async fn measure(&self, target: &Target, round: usize) -> Result<Sample>;

    /// After the last round, on a server that stays.
    async fn clean(&self, _: &Target) -> Result<()> {
        Ok(())
    }
}

/// A row.
pub(super) struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub what: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Whether a second round would tell nothing new.
    pub once: bool,
    /// What its figures must keep to.
    pub budgets: Vec<(&'static str, Limit)>,
    /// How it is measured.
    pub measure: Box<dyn Measure>,
}

fn row<const N: usize>(
    (name, what): (&'static str, &'static str),
    needs: Needs,
    budgets: [(&'static str, Limit); N],
    measure: impl Measure + 'static,
) -> Row {
    Row { name, what, needs, once: false, budgets: budgets.to_vec(), measure: Box::new(measure) }
}

fn once(row: Row) -> Row {
    Row { once: true, ..row }
}

/// The figures that every load has.
fn figures(used: Usage, mut seen: Seen) -> Sample {
    vec![
        (CPU, used.cpu_us as f64 / 1000.0 / seen.count as f64),
        (RATE, seen.rate()),
        (P50, seen.latency(0.5)),
        (P99, seen.latency(0.99)),
    ]
}

/// Every row, in the order of the design.
pub(super) fn all(bench: &Bench) -> Vec<Row> {
    let mut rows = nodes();
    rows.extend(requests(bench.seconds));
    rows.extend(many());
    rows
}

fn nodes() -> Vec<Row> {
    use Needs::{Node, Own};
    vec![
        row(("up", "knarr up on a prepared machine to node Ready"), Own, [("s", AtMost(1.5))], control::Up),
        once(row(
            ("idle", "everything on one node, nothing to do, for 30 s"),
            Node,
            [("PSS MiB", AtMost(100.0)), ("% of a core", AtMost(1.0)), ("written B/s", AtMost(1024.0))],
            idle::Idle,
        )),
        row(
            ("pod-start", "pod created to ready, image present, one at a time"),
            Node,
            [(P50, AtMost(80.0)), (P99, AtMost(250.0))],
            pods::OneByOne,
        ),
        row(
            ("pod-burst", "100 pods at once to ready, what they take, and away again"),
            Node,
            burst_budgets(),
            pods::Burst { pods: 100 },
        ),
        row(("pod-burst-200", "the same with 200 pods"), Node, burst_budgets(), pods::Burst { pods: 200 }),
        once(row(
            (
                "pod-floor",
                "what the kernel takes for 200 bare network namespaces with a link, and two cgroups each",
            ),
            Own,
            [],
            pods::Floor { pods: 200 },
        )),
        once(row(
            ("pod-idle", "a node with 500 pods that do nothing, for 30 s"),
            Node,
            [("% of a core", AtMost(1.0))],
            pods::Idle { pods: 500 },
        )),
        once(row(
            ("exec", "kubectl exec over a plain get"),
            Node,
            [("over get ms", AtMost(10.0))],
            pods::Exec,
        )),
        row(
            ("unpack", "an archive of 256 MiB in four layers, packed by gzip, imported and unpacked"),
            Node,
            [("MB/s", AtLeast(300.0))],
            pods::Unpack,
        ),
    ]
}

fn burst_budgets() -> [(&'static str, Limit); 4] {
    [
        ("pods/s", AtLeast(50.0)),
        ("PSS KiB/pod", AtMost(64.0)),
        ("with kernel KiB/pod", AtMost(256.0)),
        ("deleted, s beyond grace", AtMost(5.0)),
    ]
}

fn requests(seconds: f64) -> Vec<Row> {
    use Needs::Api;
    let write = |verb: Verb, kind: Kind, clients: usize| writes::Write::new(verb, kind, clients, seconds);
    vec![
        row(
            ("create-configmap", "durable create of a 1 KiB ConfigMap, 64 clients"),
            Api,
            [(CPU, AtMost(0.11))],
            write(Verb::Create, Kind::ConfigMap, 64),
        ),
        row(
            ("create-configmap-1", "the same, 1 client"),
            Api,
            [("p50 / fsync", AtMost(1.15))],
            write(Verb::Create, Kind::ConfigMap, 1),
        ),
        row(
            ("create-pod", "durable create of a Pod, 64 clients"),
            Api,
            [(CPU, AtMost(0.15))],
            write(Verb::Create, Kind::Pod, 64),
        ),
        row(
            ("patch-configmap", "merge patch of a 1 KiB ConfigMap, 64 clients"),
            Api,
            [(CPU, AtMost(0.15))],
            write(Verb::Patch, Kind::ConfigMap, 64),
        ),
        row(
            ("lease", "lease renewal (replace), 64 clients"),
            Api,
            [(CPU, AtMost(0.11))],
            writes::Renew { seconds },
        ),
        row(
            ("get", "GET of a 1 KiB ConfigMap, 64 clients"),
            Api,
            [(CPU, AtMost(0.054))],
            reads::Get { seconds },
        ),
        row(("list-json", "LIST of 11,000 pods, JSON"), Api, [(CPU, AtMost(38.0))], reads::List::json()),
        row(
            ("list-protobuf", "LIST of 11,000 pods, protobuf"),
            Api,
            [(CPU, AtMost(15.0))],
            reads::List::protobuf(),
        ),
    ]
}

fn many() -> Vec<Row> {
    use Needs::{Api, Own, Scheduler};
    vec![
        row(
            ("watch-50", "event to one of 50 watchers, each with a connection, writes included"),
            Api,
            [("cpu µs/event", AtMost(4.0))],
            watches::Events { watchers: 50, writes: 4000 },
        ),
        row(
            ("watch-1000", "event to one of 1,000 watchers, each with a connection, writes included"),
            Api,
            [("cpu µs/event", AtMost(3.0))],
            watches::Events { watchers: 1000, writes: 500 },
        ),
        once(row(
            (
                "watch-idle",
                "memory of an idle watch, 5,000 on 63 connections; another server must be a fresh one",
            ),
            Api,
            [("KiB/watch", AtMost(4.0))],
            watches::Idle,
        )),
        once(row(
            ("cache", "memory of 50,000 pods, over their stored bytes; another server must be a fresh one"),
            Api,
            [("PSS / stored", AtMost(1.3))],
            memory::Cache,
        )),
        row(
            ("bind-1000", "bind a pod on 1,000 nodes, its creation and all API work included"),
            Scheduler,
            [("cpu ms/pod", AtMost(0.4)), ("pods/s", AtLeast(4800.0))],
            bind::Bind { nodes: 1000 },
        ),
        row(
            ("bind-5000", "the same on 5,000 nodes"),
            Scheduler,
            [("cpu ms/pod", AtMost(0.4)), ("pods/s", AtLeast(4800.0))],
            bind::Bind { nodes: 5000 },
        ),
        row(
            ("restart", "stopped with 100,000 objects; knarr up to ready"),
            Own,
            [("s", AtMost(1.0))],
            control::Restart,
        ),
    ]
}
