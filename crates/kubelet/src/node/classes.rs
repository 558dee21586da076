//! The cgroups of the two classes of pods that share what others leave of the processor: those of the class Burstable
//! have together what they ask for together, and those that ask for nothing have next to nothing while others want it.

use std::sync::Arc;
use std::time::Duration;

use crate::Shared;
use crate::cgroups::Limits;
use crate::pods::class_groups;

/// Before what the kernel, or systemd, refused is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Keeps them so for ever.
pub async fn run(shared: Arc<Shared>) {
    let mut asked = shared.ledger.burstable();
    loop {
        let millis = *asked.borrow_and_update();
        let mut done = true;
        for (group, limits) in class_groups(&shared.config.cgroup_root, millis) {
            done &= set(&shared, &group, &limits).await;
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
    let millis = *shared.ledger.burstable().borrow();
    for (group, limits) in class_groups(&shared.config.cgroup_root, millis) {
        if !shared.cgroups.exists(&group) {
            set(shared, &group, &limits).await;
        }
    }
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
