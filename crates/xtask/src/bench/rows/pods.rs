//! Pods on a node of our own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Measure, P50, P99};
use crate::bench::http::Call;
use crate::bench::load::each;
use crate::bench::stats::percentile;
use crate::bench::table::Sample;
use crate::bench::target::Target;
use crate::bench::{image, manifests, process};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// The pods, as they change.
struct Watch {
    stream: Incoming,
    buffer: BytesMut,
}

impl Watch {
    async fn open(target: &Target) -> Result<Self> {
        let list = target.client.call(Call::get(PODS)).await?;
        let version = manifests::version(&list).context("a list without a version")?;
        let call = Call::get(format!("{PODS}?watch=1&resourceVersion={version}"));
        Ok(Self { stream: target.client.send(call).await?.into_body(), buffer: BytesMut::new() })
    }

    /// Waits for an event about `pod` (any, without one) that has this in it.
    async fn until(&mut self, wanted: impl Fn(&str, &Value) -> bool) -> Result<Value> {
        let wait = async {
            loop {
                while let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                    let mut event: Value =
                        serde_json::from_slice(self.buffer.get(..end).unwrap_or_default())?;
                    self.buffer.advance(end + 1);
                    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
                    if wanted(&kind, &object) {
                        return Ok(object);
                    }
                }
                let frame = self.stream.frame().await.context("the watch of pods has ended")??;
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(found) => found,
            Err(_) => bail!("nothing happens to the pods for 60 s"),
        }
    }
}

fn name(pod: &Value) -> &str {
    pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let is =
        |condition: &Value, key: &str, value: &str| condition.get(key).and_then(Value::as_str) == Some(value);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| is(condition, "type", "Ready") && is(condition, "status", "True"))
}

/// One after the other; each is removed before the next.
pub(super) struct OneByOne;

#[async_trait(?Send)]
impl Measure for OneByOne {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.cluster()?.import_image()
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let mut watch = Watch::open(target).await?;
        let (mut times, before) = (Vec::new(), target.usage()?);
        for number in 0..105 {
            let own = format!("one-{number}");
            let since = Instant::now();
            target.client.call(Call::post(PODS, manifests::sleeper(&own))).await?;
            watch.until(|_, pod| name(pod) == own && ready(pod)).await?;
            // The first ones find cold caches.
            if number >= 5 {
                times.push(since.elapsed().as_secs_f64() * 1000.0);
            }
            target.client.call(Call::delete(format!("{PODS}/{own}"))).await?;
            watch.until(|kind, pod| kind == "DELETED" && name(pod) == own).await?;
        }
        let used = target.usage()?.since(before);
        let mut share = |share| percentile(&mut times, share).unwrap_or(f64::NAN);
        Ok(vec![
            (P50, share(0.5)),
            (P99, share(0.99)),
            ("cpu ms/pod, start and end", used.cpu_us as f64 / 1000.0 / 105.0),
        ])
    }
}

/// So many pods run before anything is measured.
const WARM: usize = 10;

/// A hundred at once.
pub(super) struct Burst;

#[async_trait(?Send)]
impl Measure for Burst {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.cluster()?.import_image()?;
        let mut watch = Watch::open(target).await?;
        // What the first pods take is not what a pod takes.
        for number in 0..WARM {
            let own = format!("warm-{number}");
            target.client.call(Call::post(PODS, manifests::sleeper(&own))).await?;
            watch.until(|_, pod| name(pod) == own && ready(pod)).await?;
        }
        target.settle().await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        const COUNT: usize = 100;
        let cluster = target.cluster()?;
        let all = || -> Result<u64> { Ok(target.memory() + process::pss(&cluster.shims()?)) };
        let (memory, kernel) = (all()?, process::kernel_memory()?);
        let mut watch = Watch::open(target).await?;
        let (before, since) = (target.usage()?, Instant::now());
        each(&target.client, COUNT, |number| Call::post(PODS, manifests::sleeper(&format!("pod-{number}"))))
            .await?;
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < COUNT {
            let pod = watch.until(|_, pod| ready(pod)).await?;
            seen.insert(name(&pod).to_owned());
        }
        let (elapsed, used) = (since.elapsed().as_secs_f64(), target.usage()?.since(before));
        target.settle().await?;
        let per_pod = |bytes: u64| bytes as f64 / 1024.0 / COUNT as f64;
        let shims = cluster.shims()?;
        if shims.len() != COUNT + WARM {
            bail!("{} shims stand below {} pods", shims.len(), COUNT + WARM);
        }
        let own = all()?.saturating_sub(memory);
        Ok(vec![
            ("pods/s", COUNT as f64 / elapsed),
            ("cpu ms/pod", used.cpu_us as f64 / 1000.0 / COUNT as f64),
            ("PSS KiB/pod", per_pod(own)),
            ("shim KiB/pod", process::pss(&shims) as f64 / 1024.0 / shims.len() as f64),
            ("with kernel KiB/pod", per_pod(own + process::kernel_memory()?.saturating_sub(kernel))),
        ])
    }
}

/// `kubectl exec` and `kubectl get`, in turn.
pub(super) struct Exec;

#[async_trait(?Send)]
impl Measure for Exec {
    async fn prepare(&self, target: &Target) -> Result<()> {
        Burst.prepare(target).await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin/kubectl");
        let program = if own.exists() { own } else { "kubectl".into() };
        let kubeconfig = target.cluster()?.kubeconfig();
        let kubectl = |arguments: &[&str]| -> Result<f64> {
            let since = Instant::now();
            image::run(Command::new(&program).arg("--kubeconfig").arg(&kubeconfig).args(arguments))?;
            Ok(since.elapsed().as_secs_f64() * 1000.0)
        };
        let (mut get, mut exec) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            get.push(kubectl(&["get", "pod", "warm-0"])?);
            exec.push(kubectl(&["exec", "warm-0", "--", "/bin/busybox", "true"])?);
        }
        let middle = |times: &mut Vec<f64>| percentile(times, 0.5).unwrap_or(f64::NAN);
        let (get, exec) = (middle(&mut get), middle(&mut exec));
        Ok(vec![("over get ms", exec - get), ("get ms", get), ("exec ms", exec)])
    }
}
