//! Images that need not be fetched (`ImageLocality`).

use crate::snapshot::{NodeInfo, Snapshot};
use crate::view::PodView;

/// Below this nothing counts.
const LEAST: i64 = 23 << 20;
/// Of each container everything above this counts the same.
const MOST: i64 = 1000 << 20;

/// With the tag that is meant where none is named.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// The more there is of a pod's images, the better; what few nodes have counts less, or they would get all pods.
pub(super) fn there(pod: &PodView, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Vec<i64> {
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let count = i64::try_from(pod.spec.init_containers.len() + pod.spec.containers.len()).unwrap_or(1);
    let named = containers.map(|container| &container.image).chain(&pod.spec.volumes.images);
    let known = named.filter_map(|image| snapshot.image(&tagged(image)));
    let worth = |(image, size, having): (u32, i64, usize)| {
        let part = having as f64 / snapshot.len() as f64;
        (image, (size as f64 * part) as i64)
    };
    let known: Vec<(u32, i64)> = known.map(worth).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let most = MOST * count.max(1);
    let of = |info: &&NodeInfo| {
        let there = known.iter().filter(|(image, _)| info.has_image(*image));
        let sum: i64 = there.map(|(_, worth)| worth).sum();
        (sum.clamp(LEAST, most) - LEAST) * 100 / (most - LEAST)
    };
    nodes.iter().map(of).collect()
}
