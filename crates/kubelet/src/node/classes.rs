//! The cgroups of the two classes of pods that share what others leave of the processor: those of the class Burstable
//! have together what they ask for together, and those that ask for nothing have next to nothing while others want it.
//! Where memory is kept for who asked for it, their groups keep it too.

use std::sync::Arc;
use std::time::Duration;

use crate::Shared;
use crate::cgroups::Limits;
use crate::counts::table;
use crate::pods::{Asked, class_groups};

/// Before what the kernel, or systemd, refused is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Keeps them so for ever.
pub async fn run(shared: Arc<Shared>) {
    let mut asked = shared.ledger.asked();
    let mut held = Vec::new();
    loop {
        let now = *asked.borrow_and_update();
        if let Some((guaranteed, burstable)) = kept(&shared, &now) {
            shared.counts.set(&table::MEMORY_MIN, &[], guaranteed as f64);
            shared.counts.set(&table::MEMORY_LOW, &[], burstable as f64);
        }
        let wanted = groups(&shared, &now);
        let mut done = true;
        if wanted != held {
            for (group, limits) in &wanted {
                done &= set(&shared, group, limits).await;
            }
            held = if done { wanted } else { Vec::new() };
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
    class_groups(&shared.config.cgroup_root, asked, kept(shared, asked))
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
