//! Containers that cannot start.

use std::fs;

use cri::v1::{Mount, StartContainerRequest};

use crate::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn why_a_container_cannot_be_set_up_is_told_down_to_the_last_cause() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("causes")).await;
    let source = node.folder.path().join("source");
    fs::write(&source, "").unwrap();
    let mut config = Node::shell("c", "true");
    let host_path = source.display().to_string();
    config.mounts = vec![Mount {
        host_path: host_path.clone(),
        container_path: "/etc/there".into(),
        ..Default::default()
    }];
    let id = node.create(&pod, config).await;
    fs::remove_file(&source).unwrap();
    let start = StartContainerRequest { container_id: id.clone() };
    let error = node.runtime.start_container(start).await.unwrap_err();
    let text = error.message();
    assert!(text.contains(&host_path) && text.contains("No such file or directory"), "{text}");
    assert!(text.len() < 4096, "{} bytes", text.len());
    assert_eq!(node.script(&pod, Node::shell("next", "echo next")).await, (0, "next".into()));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_cgroups_went_before_its_start_says_so() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("robbed")).await;
    let id = node.create(&pod, Node::shell("c", "true")).await;
    let own: Vec<_> = node.cgroups().into_iter().filter(|folder| folder.ends_with(&id)).collect();
    assert!(!own.is_empty());
    own.iter().for_each(|folder| fs::remove_dir(folder).unwrap());
    let start = StartContainerRequest { container_id: id.clone() };
    let error = node.runtime.start_container(start).await.unwrap_err();
    let text = error.message();
    assert!(text.contains(&id) && text.contains("No such file or directory"), "{text}");
    // The pod's as well: it is made again with the next container.
    own.iter().for_each(|folder| fs::remove_dir(folder.parent().unwrap()).unwrap());
    assert_eq!(node.script(&pod, Node::shell("next", "echo next")).await, (0, "next".into()));
    node.finish().await;
}
