//! Pods on a node: of our own, and of a peer.

mod burst;
mod exec;
mod floor;
mod idle;
mod start;
mod unpack;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

pub(super) use burst::Burst;
pub(super) use exec::Exec;
pub(super) use floor::Floor;
pub(super) use idle::Idle;
pub(super) use start::OneByOne;
pub(super) use unpack::Unpack;

use crate::bench::http::Call;
use crate::bench::load::each;
use crate::bench::manifests;
use crate::bench::target::Target;

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

/// So many pods run before anything is measured.
const WARM: usize = 10;

/// Imports the image and starts a few pods: what the first ones take is not what a pod takes.
async fn warm(target: &Target) -> Result<()> {
    target.cluster()?.import_image()?;
    let mut watch = Watch::open(target).await?;
    for number in 0..WARM {
        let own = format!("warm-{number}");
        target.client.call(Call::post(PODS, manifests::sleeper(&own, 0))).await?;
        watch.until(|_, pod| name(pod) == own && ready(pod)).await?;
    }
    target.settle().await
}

/// Makes so many pods at once, and waits until all are ready.
async fn ready_at_once(target: &Target, numbers: std::ops::Range<usize>, grace: u32) -> Result<()> {
    let mut watch = Watch::open(target).await?;
    let (first, count) = (numbers.start, numbers.len());
    let pod = |number| manifests::sleeper(&format!("pod-{}", first + number), grace);
    each(&target.client, count, |number| Call::post(PODS, pod(number))).await?;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < count {
        let pod = watch.until(|kind, pod| kind != "DELETED" && ready(pod)).await?;
        seen.insert(name(&pod).to_owned());
    }
    Ok(())
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
