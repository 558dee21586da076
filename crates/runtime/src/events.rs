//! What happened to containers, for whoever subscribed.

use std::sync::Arc;

use cri::v1::ContainerEventResponse;
use tokio::sync::broadcast;

/// How many events a subscriber may be behind before it is cut off.
const BACKLOG: usize = 4096;

/// The events of one runtime. Shared, as the channel has room for all of its backlog from the beginning.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Arc<ContainerEventResponse>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Events {
    /// Whether anybody listens; if not, an event need not be made.
    pub fn are_wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells everybody.
    pub fn send(&self, event: ContainerEventResponse) {
        // Nobody has to listen.
        let _ = self.0.send(Arc::new(event));
    }

    /// All events from now on. A subscriber that falls behind gets an error, never a gap.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<ContainerEventResponse>> {
        self.0.subscribe()
    }
}
