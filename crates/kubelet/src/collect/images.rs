//! Unused images go when the disk fills (`pkg/kubelet/images.ImageGCManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::Shared;
use crate::counts::table;

/// Upstream's period.
const PERIOD: Duration = Duration::from_secs(300);

/// An image that is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    pub id: String,
    /// Bytes.
    pub size: i64,
    pub pinned: bool,
    pub used: bool,
    pub first_seen: Timestamp,
    /// When a container used it last; `first_seen` if none ever did.
    pub last_used: Timestamp,
}

/// Which images go so that `bytes` become free: the longest unused first. Pure.
pub fn choose(images: &[Image], bytes: i64, now: Timestamp, minimum: SignedDuration) -> Vec<String> {
    let old = |image: &&Image| now.duration_since(image.first_seen) >= minimum;
    let mut unused: Vec<&Image> =
        images.iter().filter(|image| !image.used && !image.pinned).filter(old).collect();
    unused.sort_by_key(|image| (image.last_used, image.first_seen));
    let mut free = 0;
    unused
        .into_iter()
        .take_while(|image| {
            let more = free < bytes;
            free += image.size;
            more
        })
        .map(|image| image.id.clone())
        .collect()
}

/// Which images nobody has used for longer than `maximum`, which is not zero. Pure.
pub fn outdated(images: &[Image], now: Timestamp, maximum: SignedDuration) -> Vec<String> {
    let old = |image: &&Image| !image.used && !image.pinned && now.duration_since(image.last_used) > maximum;
    images.iter().filter(old).map(|image| image.id.clone()).collect()
}

/// What is remembered of images: when they were seen and used.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<String, (Timestamp, Timestamp)>);

/// Looks every five minutes; how long an image that is there at the start is not used counts from then.
pub async fn run(shared: Arc<Shared>) {
    let mut memory = Memory::default();
    if let Err(why) = list(&shared, &mut memory).await {
        tracing::warn!(%why, "images are looked at for the first time in five minutes");
    }
    loop {
        tokio::time::sleep(PERIOD).await;
        if let Err(why) = round(&shared, &mut memory).await {
            tracing::warn!(%why, "images are not collected");
        }
    }
}

async fn list(shared: &Shared, memory: &mut Memory) -> Result<Vec<Image>, tonic::Status> {
    let (images, containers) = tokio::try_join!(shared.runtime.images(), shared.runtime.containers(None))?;
    let now = shared.config.clock.steady();
    let used: BTreeSet<String> =
        containers.iter().flat_map(|c| [c.image_ref.clone(), c.image_id.clone()]).collect();
    memory.0.retain(|id, _| images.iter().any(|image| image.id == *id));
    let known = images.into_iter().map(|image| {
        let names = image.repo_tags.iter().chain(&image.repo_digests);
        let used = used.contains(&image.id) || names.clone().any(|name| used.contains(name));
        let entry = memory.0.entry(image.id.clone()).or_insert((now, now));
        if used {
            entry.1 = now;
        }
        let (first_seen, last_used) = *entry;
        let size = i64::try_from(image.size).unwrap_or(i64::MAX);
        Image { id: image.id, size, pinned: image.pinned, used, first_seen, last_used }
    });
    Ok(known.collect())
}

async fn round(shared: &Shared, memory: &mut Memory) -> Result<(), tonic::Status> {
    let mut images = list(shared, memory).await?;
    let settings = &shared.config.eviction;
    let fields = &shared.config.configuration.fields;
    let (now, maximum) = (shared.config.clock.steady(), signed(fields.image_maximum_gc_age));
    if !maximum.is_zero() {
        for id in outdated(&images, now, maximum) {
            tracing::info!(image = %id, "removing an image that nobody has used for long");
            shared.runtime.remove_image(&id).await?;
            shared.counts.count(&table::IMAGES_COLLECTED, &["age"]);
            images.retain(|image| image.id != id);
        }
    }
    let Some(mountpoint) = shared.runtime.filesystems().await?.0 else { return Ok(()) };
    let disk = nix::sys::statvfs::statvfs(mountpoint.as_str())
        .map_err(|errno| tonic::Status::internal(format!("{mountpoint}: {errno}")))?;
    let capacity = i64::try_from(disk.blocks() * disk.fragment_size()).unwrap_or(i64::MAX);
    let available = i64::try_from(disk.blocks_available() * disk.fragment_size()).unwrap_or(i64::MAX);
    let percent = 100 - available.saturating_mul(100) / capacity.max(1);
    if settings.image_high >= 100 || percent < i64::from(settings.image_high) {
        return Ok(());
    }
    let wanted = capacity / 100 * (100 - i64::from(settings.image_low)) - available;
    for id in choose(&images, wanted, now, signed(fields.image_minimum_gc_age)) {
        tracing::info!(image = %id, "removing an image that nobody uses");
        shared.runtime.remove_image(&id).await?;
        shared.counts.count(&table::IMAGES_COLLECTED, &["space"]);
    }
    Ok(())
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Counts those as used that containers are about to start with. Pure.
fn keep(images: &mut [Image], awaited: &BTreeSet<String>) {
    images.iter_mut().filter(|image| awaited.contains(&image.id)).for_each(|image| image.used = true);
}

/// Removes every image that no container uses, or is about to, for the disk is short. Whether there was any.
pub async fn free_all(shared: &Shared, awaited: &BTreeSet<String>) -> bool {
    let mut memory = Memory::default();
    let mut images = match list(shared, &mut memory).await {
        Ok(images) => images,
        Err(status) => {
            tracing::warn!(%status, "images are not collected");
            return false;
        }
    };
    keep(&mut images, awaited);
    let chosen = choose(&images, i64::MAX, shared.config.clock.steady(), SignedDuration::ZERO);
    for id in &chosen {
        match shared.runtime.remove_image(id).await {
            Ok(()) => shared.counts.count(&table::IMAGES_COLLECTED, &["space"]),
            Err(status) => tracing::warn!(image = %id, %status, "an unused image is not removed"),
        }
    }
    !chosen.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM_AGE: SignedDuration = SignedDuration::from_secs(120);

    #[test]
    fn the_longest_unused_go_first_and_no_more_than_needed() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let image = |id: &str, last_used, used, pinned, first_seen| Image {
            id: id.to_owned(),
            size: 10,
            pinned,
            used,
            first_seen: at(first_seen),
            last_used: at(last_used),
        };
        let images = [
            image("new", 990, false, false, 990),
            image("later", 500, false, false, 0),
            image("sooner", 100, false, false, 0),
            image("used", 0, true, false, 0),
            image("pinned", 0, false, true, 0),
        ];
        assert_eq!(choose(&images, 5, at(1000), MINIMUM_AGE), ["sooner"]);
        assert_eq!(choose(&images, 15, at(1000), MINIMUM_AGE), ["sooner", "later"]);
        assert_eq!(choose(&images, i64::MAX, at(1000), MINIMUM_AGE), ["sooner", "later"]);
        assert!(choose(&images, 0, at(1000), MINIMUM_AGE).is_empty());
        let maximum = SignedDuration::from_secs(499);
        assert_eq!(outdated(&images, at(1000), maximum), ["later", "sooner"]);
        assert_eq!(outdated(&images, at(999), maximum), ["sooner"], "what is used or pinned stays");
    }

    #[test]
    fn an_image_that_a_container_is_about_to_start_with_stays() {
        let image = |id: &str| Image { id: id.to_owned(), size: 1, ..Image::default() };
        let mut images = [image("pulled"), image("old")];
        keep(&mut images, &["pulled".to_owned(), "gone".to_owned()].into());
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(choose(&images, i64::MAX, now, SignedDuration::ZERO), ["old"]);
    }
}
