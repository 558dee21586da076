//! What upstream's kubelet asks for, as it asks.

use cri::v1::*;

use crate::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_huge_pages_need_no_controller_where_they_are_none() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("pages")).await;
    let mut config = Node::shell("c", "echo ran");
    let limit = |size: &str| HugepageLimit { page_size: size.into(), limit: 0 };
    // All sizes that the machine knows, whether or not its kernel limits them.
    config.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        cpu_period: 100_000,
        cpu_shares: 2,
        oom_score_adj: 1000,
        hugepage_limits: vec![limit("2MB"), limit("1GB")],
        ..LinuxContainerResources::default()
    });
    assert_eq!(node.script(&pod, config).await, (0, "ran".to_owned()));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_told_apart_as_dashboards_expect() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("metrics")).await;
    let mut config = Node::shell("c", "sleep 100");
    let asked = crate::node::IMAGE.rsplit('/').next().unwrap().to_owned();
    let known = node.images.image_status(ImageStatusRequest { image: config.image.clone(), verbose: false });
    let id = known.await.unwrap().into_inner().image.unwrap().id;
    config.image = Some(ImageSpec { image: id, user_specified_image: asked.clone(), ..ImageSpec::default() });
    let id = node.run(&pod, config).await;
    // The pod's status shows this name.
    assert_eq!(node.status(&id).await.image.unwrap().image, crate::node::IMAGE);
    let described = node.runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await;
    let described = described.unwrap().into_inner().descriptors;
    let listed = node.runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
    let listed = listed.unwrap().into_inner().pod_metrics;
    let labels = |metrics: &[Metric], name: &str| {
        let keys = &described.iter().find(|row| row.name == name).unwrap().label_keys;
        let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
        assert_eq!(keys.len(), metric.label_values.len());
        let of = |label: &str| metric.label_values[keys.iter().position(|key| key == label).unwrap()].clone();
        ["namespace", "pod", "container", "image"].map(of)
    };
    let of_container = labels(&listed[0].container_metrics[0].metrics, "container_memory_working_set_bytes");
    assert_eq!(of_container, ["default", "metrics", "c", asked.as_str()]);
    node.finish().await;
}
