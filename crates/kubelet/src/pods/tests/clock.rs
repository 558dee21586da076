//! What a wall clock that is set does to pods: nothing.

use super::*;

#[test]
fn a_container_that_crashed_waits_as_long_whatever_the_clock_is_set_to() {
    let day = SignedDuration::from_hours(24);
    for by in [day, -day] {
        let mut node = Node::crashing();
        node.now += by;
        node.memory.shift(by);
        node.pass(9);
        node.settle();
        assert_eq!(node.state("c"), "CrashLoopBackOff", "set by {by:?}");
        node.pass(2);
        node.settle();
        assert_eq!(node.state("c"), "running", "set by {by:?}");
        let told = node.log.iter().filter(|action| matches!(action, Action::TellBackOff { .. })).count();
        assert_eq!(told, 1, "set by {by:?}");
    }
}
