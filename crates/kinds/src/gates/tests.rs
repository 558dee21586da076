use super::*;

fn set(text: &str) -> Result<Gates, Vec<String>> {
    Gates::new(&parse(text).unwrap())
}

#[test]
fn the_table_is_in_order_and_knows_every_gate_that_acts() {
    let names: Vec<&str> = rows().map(|row| row.name).collect();
    assert!(names.is_sorted() && names.len() == TABLE.lines().count() && names.len() > 250);
    let acting: Vec<&str> = rows().filter(|row| row.acts).map(|row| row.name).collect();
    let mut known: Vec<&str> = Gate::ALL.iter().map(|gate| gate.name()).chain([ALPHA, BETA]).collect();
    known.sort_unstable();
    assert_eq!(acting, known);
    for row in rows() {
        assert!(["GA", "BETA", "ALPHA", "DEPRECATED"].contains(&row.stage), "{row:?}");
        assert!(!(row.locked && row.acts), "{row:?}");
    }
    // What is not on in v1.37 is taken out of pods, or else acts.
    for name in ["GenericWorkload", "EvictionRequestAPI", "CSIVolumeHealth", "DRANodeAllocatableResources"] {
        assert!(rows().any(|row| row.name == name && !row.on && !row.acts), "{name}");
    }
}

#[test]
fn lists_are_read_as_upstream_reads_them() {
    let read = parse(" A = true ,B=F,,A=0").unwrap();
    assert_eq!(read.into_iter().collect::<Vec<_>>(), [("A".to_owned(), false), ("B".to_owned(), false)]);
    assert_eq!(parse("A=true,B"), Err("missing bool value for B".to_owned()));
    let told = "invalid value of A=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax";
    assert_eq!(parse("A=yes"), Err(told.to_owned()));
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |text: &str| set(text).unwrap_err();
    assert_eq!(refused("EmptyDirVolumeMode=true,Nonsense=true"), ["unrecognized feature gate: Nonsense"]);
    assert_eq!(
        refused("NodeSwap=false,GenericWorkload=true,PodLevelResources=false"),
        [
            "cannot set feature gate GenericWorkload to true: Knarr does not have the feature",
            "cannot set feature gate NodeSwap to false, feature is locked to true",
        ]
    );
    // What is so anyhow may be said.
    let same = "NodeSwap=true,GenericWorkload=false,PodLevelResources=true";
    assert_eq!(set(same), Ok(Gates::default()));
    assert!(set("PodAndContainerStatsFromCRI=true").is_ok(), "it is so here");
    assert!(set("PodAndContainerStatsFromCRI=false").is_ok(), "it is so upstream");
    let off = parse("PodAndContainerStatsFromCRI=false,PodLevelResources=false,AllBeta=false").unwrap();
    assert_eq!(Gates::new(&off), Ok(set("AllBeta=false").unwrap()));
    assert_eq!(Gates::kept(&off), ["feature gate PodLevelResources stays on: Knarr always has the feature"]);
}

#[test]
fn a_gate_that_is_named_wins_over_all_of_a_stage() {
    let none = Gates::default();
    assert!(!none.has(Gate::EmptyDirVolumeMode) && none.has(Gate::KubeletCrashLoopBackOffMax));
    let all = set("AllAlpha=true,ReduceDefaultCrashLoopBackOffDecay=false").unwrap();
    assert!(all.has(Gate::EmptyDirVolumeMode) && !all.has(Gate::ReduceDefaultCrashLoopBackOffDecay));
    assert!(all.has(Gate::KubeletCrashLoopBackOffMax), "beta");
    let beta = set("AllBeta=false,CPUManagerPolicyBetaOptions=true").unwrap();
    assert!(!beta.has(Gate::KubeletCrashLoopBackOffMax) && beta.has(Gate::CpuManagerPolicyBetaOptions));
}

#[test]
fn the_metric_tells_of_every_gate() {
    let text = set("AllAlpha=true,EmptyDirVolumeMode=false").unwrap().metric();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("# HELP kubernetes_feature_enabled {HELP}"));
    assert_eq!(lines[1], "# TYPE kubernetes_feature_enabled gauge");
    assert_eq!(lines.len(), TABLE.lines().count() + 2);
    for line in [
        r#"kubernetes_feature_enabled{name="AllAlpha",stage="ALPHA"} 1"#,
        r#"kubernetes_feature_enabled{name="AllBeta",stage="BETA"} 0"#,
        r#"kubernetes_feature_enabled{name="EmptyDirVolumeMode",stage="ALPHA"} 0"#,
        r#"kubernetes_feature_enabled{name="PodLogsQuerySplitStreams",stage="ALPHA"} 1"#,
        r#"kubernetes_feature_enabled{name="NodeSwap",stage=""} 1"#,
        r#"kubernetes_feature_enabled{name="KMSv1",stage="DEPRECATED"} 0"#,
    ] {
        assert!(lines.contains(&line), "{line}");
    }
}
