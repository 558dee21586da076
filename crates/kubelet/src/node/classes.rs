//! The cgroups of the two classes of pods that share what others leave of the processor: those of the class Burstable
//! have together what they ask for together, and those that ask for nothing have next to nothing while others want it.
//! Where memory is kept for who asked for it, their groups keep it too; where classes leave memory to those above them
//! (`qosReserved`), their groups are limited.

use std::sync::Arc;
use std::time::Duration;

use crate::Shared;
use crate::cgroups::Limits;
use crate::counts::table;
use crate::eviction::pods_group;
use crate::pods::{Asked, class_groups};

/// Before what the kernel, or systemd, refused is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Keeps them so for ever.
pub async fn run(shared: Arc<Shared>) {
    let mut asked = shared.ledger.asked();
    let mut held = Vec::new();
    // Limits that another kubelet has left here are no limits any more.
    let mut unbound = shared.means.reserve.is_none();
    loop {
        let now = *asked.borrow_and_update();
        if let Some((guaranteed, burstable)) = kept(&shared, &now) {
            shared.counts.set(&table::MEMORY_MIN, &[], guaranteed as f64);
            shared.counts.set(&table::MEMORY_LOW, &[], burstable as f64);
        }
        let mut wanted = groups(&shared, &now);
        let mut done = true;
        if wanted != held {
            for (group, limits) in &mut wanted {
                if unbound && *group != pods_group(&shared) {
                    limits.memory = Some(-1);
                }
                done &= fit(&shared, group, limits);
                done &= set(&shared, group, limits).await;
            }
            unbound &= !done;
            held = if done { groups(&shared, &now) } else { Vec::new() };
        }
        let again = async {
            match done {
                true => std::future::pending().await,
                false => tokio::time::sleep(AGAIN).await,
            }
        };
        tokio::select! {
            changed = asked.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// Makes the groups again, should somebody have removed one while it was empty.
pub async fn restore(shared: &Shared) {
    let asked = *shared.ledger.asked().borrow();
    for (group, limits) in groups(shared, &asked) {
        if !shared.cgroups.exists(&group) {
            set(shared, &group, &limits).await;
        }
    }
}

fn groups(shared: &Shared, asked: &Asked) -> Vec<(String, Limits)> {
    let most = shared.means.reserve.map(|reserve| reserve.most(asked));
    class_groups(&shared.config.cgroup_root, asked, kept(shared, asked), most)
}

/// A group that uses more memory than it may is kept from using still more: the kernel would refuse less than that, or kill
/// for it. Says whether the limit is what it is to be.
fn fit(shared: &Shared, group: &str, limits: &mut Limits) -> bool {
    let Some(most) = limits.memory.filter(|bytes| *bytes >= 0) else { return true };
    let used = match shared.cgroups.memory_usage(group) {
        Ok(used) => used.unwrap_or(0),
        Err(error) => {
            tracing::warn!(group, %error, "what a class of pods uses is not known");
            return true;
        }
    };
    limits.memory = Some(most.max(used));
    used <= most
}

/// The bytes that are kept for the classes Guaranteed and Burstable, where any are.
fn kept(shared: &Shared, asked: &Asked) -> Option<(i64, i64)> {
    let qos = shared.means.memory_qos?;
    Some(qos.asked(asked.guaranteed_memory, asked.burstable_memory))
}

async fn set(shared: &Shared, group: &str, limits: &Limits) -> bool {
    match shared.cgroups("update", shared.cgroups.make(group, limits)).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(group, %error, "what a class of pods has of the processor is not set");
            false
        }
    }
}
