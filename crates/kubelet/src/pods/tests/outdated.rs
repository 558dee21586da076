//! Jobs that end while a worker looks and decides.

use super::*;

#[test]
fn nothing_is_decided_upon_what_was_seen_before_a_job_ended() {
    let mut node = Node::new(simple("Never"));
    node.settle();
    // As it was seen while it was being started.
    let mut before = node.observed.clone();
    before.containers[0].state = State::Created;
    let job = Job::Start("c".to_owned());
    node.memory.running.insert(job.clone());
    let as_of = node.memory.ended;
    let decide = |node: &Node| {
        let view = View {
            pod: &node.pod,
            removed: false,
            observed: &before,
            as_of,
            memory: &node.memory,
            now: node.now,
        };
        plan(&view)
    };
    let decided = decide(&node);
    assert!(!decided.outdated && decided.actions.is_empty(), "it is being started: {decided:?}");
    node.memory.finish(&job, Outcome { failure: None }, node.now);
    let decided = decide(&node);
    assert!(
        decided.outdated && decided.actions.is_empty(),
        "it runs by now, and is not to be removed: {decided:?}"
    );
    // A kubelet that comes to it later sees one that nobody starts.
    node.observed = before.clone();
    assert_eq!(node.look().actions, [Action::RemoveContainer { id: "c0".to_owned() }]);
}
