use super::*;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn source(path: &str, text: &str) -> Source {
    Source { path: PathBuf::from(path), text: format!("{HEAD}{text}") }
}

fn merge(texts: &[&str]) -> Result<(Configuration, Vec<String>), ConfigurationError> {
    let sources: Vec<Source> = texts.iter().map(|text| source("/etc/kubernetes/k.yaml", text)).collect();
    Configuration::merge(&sources, Map::new())
}

#[test]
fn defaults_are_upstreams() {
    let fields = Configuration::defaults().unwrap().fields;
    assert_eq!((fields.max_pods, fields.port, fields.node_lease_duration_seconds), (110, 10250, 40));
    assert_eq!(fields.node_status_report_frequency, Duration::from_secs(300));
    assert_eq!(fields.authentication.webhook.cache_ttl, Duration::from_secs(120));
    assert!(!fields.authentication.anonymous.enabled && fields.serialize_image_pulls);
    assert_eq!(fields.eviction_hard.len(), 5);
    assert_eq!(fields.enforce_node_allocatable, ["pods"]);
    assert_eq!(fields.memory_throttling_factor, None);
}

#[test]
fn fields_that_depend_on_others_follow_them() {
    let (configuration, _) = merge(&["nodeStatusUpdateFrequency: 20s\nmaxParallelImagePulls: 3\n"]).unwrap();
    assert_eq!(configuration.fields.node_status_report_frequency, Duration::from_secs(20));
    assert!(!configuration.fields.serialize_image_pulls);
    let (configuration, _) = merge(&["evictionHard: {memory.available: 1Gi}\n"]).unwrap();
    assert_eq!(configuration.fields.eviction_hard.len(), 1);
    let text = "evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n";
    let hard = merge(&[text]).unwrap().0.fields.eviction_hard;
    assert_eq!((hard.len(), hard["memory.available"].as_str()), (5, "1Gi"));
}

#[test]
fn flags_win_over_drop_ins_and_those_over_the_file() {
    let sources = [
        source(
            "/a",
            "maxPods: 1\nport: 1000\nclusterDNS: [10.0.0.1]\nkubeReserved: {cpu: 1, memory: 1Gi}\n"
                .replace("cpu: 1", "cpu: '1'")
                .as_str(),
        ),
        source("/b", "maxPods: 2\nclusterDNS: [10.0.0.2]\nkubeReserved: {cpu: '2'}\n"),
    ];
    let flags = Map::from_iter([("maxPods".to_owned(), json!(3))]);
    let fields = Configuration::merge(&sources, flags).unwrap().0.fields;
    assert_eq!((fields.max_pods, fields.port), (3, 1000));
    assert_eq!(fields.cluster_dns, ["10.0.0.2"], "lists are replaced");
    assert_eq!((fields.kube_reserved["cpu"].as_str(), fields.kube_reserved["memory"].as_str()), ("2", "1Gi"));
}

#[test]
fn thresholds_of_a_flag_or_a_drop_in_stand_alone() {
    let few = "evictionHard: {memory.available: 1Gi}\n";
    assert_eq!(merge(&["maxPods: 1\n", few]).unwrap().0.fields.eviction_hard.len(), 1);
    let flags = Map::from_iter([("evictionHard".to_owned(), json!({"pid.available": "5%"}))]);
    let fields = Configuration::merge(&[source("/a", few)], flags).unwrap().0.fields;
    assert_eq!(
        fields.eviction_hard.into_iter().collect::<Vec<_>>(),
        [("pid.available".to_owned(), "5%".to_owned())]
    );
}

#[test]
fn drop_ins_are_read_in_order_and_paths_from_where_the_file_is() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("20-b.conf", "maxPods: 20\n"),
        ("10-a.conf", "maxPods: 10\nstaticPodPath: m\n"),
        ("30.yaml", "maxPods: 30\n"),
    ] {
        std::fs::write(dir.path().join(name), format!("{HEAD}{text}")).unwrap();
    }
    let (configuration, _) = Configuration::load(None, Some(dir.path()), Map::new()).unwrap();
    assert_eq!(configuration.fields.max_pods, 20);
    assert_eq!(Path::new(&configuration.fields.static_pod_path), dir.path().join("m"));
}

#[test]
fn what_is_unknown_or_idle_is_named_and_what_cannot_be_is_an_error() {
    let (_, warnings) =
        merge(&["maxpods: 3\nauthentication: {webhook: {on: true}}\nvolumePluginDir: /x\n"]).unwrap();
    assert_eq!(
        warnings,
        [
            "/etc/kubernetes/k.yaml: strict decoding error: unknown field \"authentication.webhook.on\", unknown field \"maxpods\": ignored",
            "/etc/kubernetes/k.yaml: these fields have no effect here: volumePluginDir",
        ]
    );
    for (text, message) in [
        (
            "maxPods: many\n",
            "json: cannot unmarshal string into Go struct field KubeletConfiguration.maxPods of type int32",
        ),
        ("syncFrequency: often\n", "syncFrequency: time: invalid duration \"often\""),
        ("maxPods: -1\n", "invalid configuration: maxPods (--max-pods) -1 must not be a negative number"),
        (
            "imageGCLowThresholdPercent: 90\n",
            "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) 90 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
        ),
        (
            "enforceNodeAllocatable: [none, pods]\n",
            "may not contain additional enforcements when \"none\" is specified",
        ),
        (
            "cpuCFSQuotaPeriod: 2s\n",
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {2s} must be between 1ms and 1sec",
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 10m}\n",
            "CrashLoopBackOff.MaxContainerRestartPeriod (got: 600 seconds) must be set between 1s and 300s",
        ),
        ("userNamespaces: {idsPerPod: 65537}\n", "userNamespaces.idsPerPod must be a multiple of 65536"),
        ("logging: {format: xml}\n", "logging.format: Invalid value: \"xml\": Unsupported log format"),
        ("containerLogMaxFiles: 1\n", "invalid configuration: containerLogMaxFiles must be greater than 1"),
        (
            "memoryThrottlingFactor: 1.5\n",
            "invalid configuration: memoryThrottlingFactor 1.5 must be greater than 0 and less than or equal to 1.0",
        ),
        (
            "memoryReservationPolicy: TieredReservation\nfeatureGates: {MemoryQoS: false}\n",
            "memoryReservationPolicy \"TieredReservation\" requires MemoryQoS feature gate to be enabled",
        ),
        (
            "memoryReservationPolicy: All\n",
            "option \"All\" specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\"",
        ),
        ("podLogsDir: /a/../b\n", "pod logs path \"/a/../b\" must be normalized"),
    ] {
        let error = merge(&[text]).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
    let other = Source { path: PathBuf::from("/x"), text: "kind: Pod\napiVersion: v1\n".to_owned() };
    assert!(matches!(Configuration::merge(&[other], Map::new()), Err(ConfigurationError::Decode { .. })));
    let empty = Source { path: PathBuf::from("/x"), text: String::new() };
    assert!(matches!(Configuration::merge(&[empty], Map::new()), Err(ConfigurationError::Empty(_))));
}
