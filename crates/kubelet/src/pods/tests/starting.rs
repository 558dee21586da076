//! What is told of containers on their way to run.

use super::*;

fn told(node: &Node) -> ContainerStatus {
    node.status().container_statuses.as_ref().unwrap()[0].clone()
}

/// The next container of a name is made and does not run yet.
fn make(node: &mut Node) {
    let last = node.observed.containers[0].clone();
    let made = Instance {
        id: format!("c{}", last.restarts + 1),
        restarts: last.restarts + 1,
        state: State::Created,
        started_at: 0,
        finished_at: 0,
        ..last
    };
    node.observed.containers.insert(0, made);
    node.memory.running.insert(Job::Start("c".to_owned()));
    node.look();
}

#[test]
fn a_container_that_is_made_again_is_told_of_when_it_runs() {
    let mut node = Node::crashing();
    let crashed = told(&node);
    node.pass(20);
    make(&mut node);
    assert_eq!(told(&node), crashed);
    node.observed.containers[0].state = State::Running;
    node.look();
    assert_eq!(node.state("c"), "running");
    assert_eq!(told(&node).restart_count, 2);
}

#[test]
fn one_that_ended_and_was_not_told_of_is_told_of_while_the_next_is_made() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.exit("c", 3);
    make(&mut node);
    let status = told(&node);
    let state = status.state.unwrap();
    assert_eq!(state.terminated.expect("told as ended").exit_code, 3);
    assert_eq!((status.restart_count, status.ready, status.started), (0, false, Some(false)));
}

#[test]
fn what_a_container_has_for_itself_is_told_before_it_begins() {
    let mut node = Node::new(simple("Always"));
    node.broken.push("c".to_owned());
    let has = vec![ResourceStatus { name: "example.com/device".to_owned(), resources: None }];
    node.exclusive.insert("c".to_owned(), has.clone());
    node.settle();
    assert_eq!(node.state("c"), "ErrImagePull");
    assert_eq!(told(&node).allocated_resources_status, Some(has));
}
