//! What is told of a node when its conditions change (`pkg/kubelet/nodestatus`). Deciding is pure.

use k8s_openapi::api::core::v1::NodeStatus;

use crate::Shared;

/// An event about the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    warning: bool,
    reason: &'static str,
    message: Message,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    /// `Node NAME status is now: REASON`
    Now,
    Text(String),
    /// `Node NAME has been rebooted, boot id: ID`
    Rebooted(String),
}

/// Conditions, and what each of their two states is called.
const NAMES: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// What is to be told of a node that was so and is so now; `first` when this kubelet tells of it for the first time.
pub fn between(old: Option<&NodeStatus>, new: &NodeStatus, first: bool) -> Vec<NodeEvent> {
    let mut events = Vec::new();
    if first {
        let text = |text: &str| Message::Text(text.to_owned());
        events.push(NodeEvent { warning: false, reason: "Starting", message: text("Starting kubelet.") });
    }
    let boot = |status: &NodeStatus| status.node_info.as_ref().map(|info| info.boot_id.clone());
    let before = old.and_then(boot).filter(|id| !id.is_empty());
    if let (Some(before), Some(now)) = (before, boot(new))
        && before != now
    {
        events.push(NodeEvent { warning: true, reason: "Rebooted", message: Message::Rebooted(now) });
    }
    for (kind, yes, no) in NAMES {
        let of = |status: &NodeStatus| {
            let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
            found.map(|condition| condition.status.clone())
        };
        let now = of(new);
        if now.is_none() || now == old.and_then(of) {
            continue;
        }
        let reason = if now.as_deref() == Some("True") { yes } else { no };
        // A node that begins is not ready yet: that is nothing to tell.
        if reason != "NodeNotReady" || old.and_then(of).is_some() {
            events.push(NodeEvent { warning: false, reason, message: Message::Now });
        }
    }
    events
}

/// What is to be told when pods may be placed on the node no more, or again.
pub fn schedulable(was_unschedulable: bool, is_unschedulable: bool) -> Option<NodeEvent> {
    let reason = if is_unschedulable { "NodeNotSchedulable" } else { "NodeSchedulable" };
    let event = NodeEvent { warning: false, reason, message: Message::Now };
    (was_unschedulable != is_unschedulable).then_some(event)
}

impl NodeEvent {
    /// Tells it.
    pub fn record(self, shared: &Shared) {
        let name = &shared.config.node_name;
        let about = super::reference(shared);
        let message = match self.message {
            Message::Now => format!("Node {name} status is now: {}", self.reason),
            Message::Text(text) => text,
            Message::Rebooted(id) => format!("Node {name} has been rebooted, boot id: {id}"),
        };
        match self.warning {
            true => shared.recorder.warning(about, self.reason, message),
            false => shared.recorder.normal(about, self.reason, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSystemInfo};

    use super::*;

    fn status(boot: &str, conditions: &[(&str, &str)]) -> NodeStatus {
        let conditions = conditions.iter().map(|(kind, status)| NodeCondition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            ..NodeCondition::default()
        });
        NodeStatus {
            conditions: Some(conditions.collect()),
            node_info: Some(NodeSystemInfo { boot_id: boot.to_owned(), ..NodeSystemInfo::default() }),
            ..NodeStatus::default()
        }
    }

    fn reasons(old: Option<&NodeStatus>, new: &NodeStatus, first: bool) -> Vec<&'static str> {
        between(old, new, first).into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn changes_are_told_and_only_these() {
        let starting = status("a", &[("MemoryPressure", "False"), ("Ready", "False")]);
        let ready = status("a", &[("MemoryPressure", "False"), ("Ready", "True")]);
        let short = status("a", &[("MemoryPressure", "True"), ("Ready", "False")]);
        let again = status("b", &[("MemoryPressure", "False"), ("Ready", "True")]);
        assert_eq!(reasons(None, &starting, true), ["Starting", "NodeHasSufficientMemory"]);
        assert_eq!(reasons(Some(&starting), &ready, false), ["NodeReady"]);
        assert_eq!(reasons(Some(&ready), &ready, false), [""; 0]);
        assert_eq!(reasons(Some(&ready), &short, false), ["NodeHasInsufficientMemory", "NodeNotReady"]);
        assert_eq!(reasons(Some(&ready), &again, true), ["Starting", "Rebooted"]);
    }

    #[test]
    fn cordoning_is_told_once() {
        let reason = |was, is| schedulable(was, is).map(|event| event.reason);
        assert_eq!(reason(false, true), Some("NodeNotSchedulable"));
        assert_eq!(reason(true, false), Some("NodeSchedulable"));
        assert_eq!((reason(true, true), reason(false, false)), (None, None));
    }
}
