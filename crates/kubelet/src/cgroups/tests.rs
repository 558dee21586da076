use super::*;

/// One hierarchy of version 1, with memory's controller.
fn split(root: &Path) -> Cgroups {
    let split = vec![(vec!["memory".to_owned()], root.to_owned())];
    Cgroups { found: Hierarchies { split, ..Hierarchies::default() }, ..Cgroups::default() }
}

#[test]
fn hierarchies_are_found_by_where_they_are_mounted() {
    let hybrid = "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  2 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                  3 0 0:3 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    let found = Cgroups::parse(hybrid);
    let paths = |roots: &mut dyn Iterator<Item = &PathBuf>| -> Vec<String> {
        roots.map(|root| root.display().to_string()).collect()
    };
    let all = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    assert_eq!(paths(&mut found.roots()), all);
    assert_eq!(paths(&mut found.split()), [all[0], all[2]], "one of version 2 beside them limits nothing");
    let unified = Cgroups::parse("1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    assert_eq!(unified.folder("memory", "/a/b"), Some(PathBuf::from("/sys/fs/cgroup/a/b")));
}

#[test]
fn a_quota_is_the_same_share_of_any_period() {
    let limits = Limits { cpu_quota: Some(50_000), ..Limits::default() };
    let written = |unified, period| -> Vec<String> {
        writes(&limits, unified, period).into_iter().map(|(_, _, value)| value).collect()
    };
    assert_eq!(
        (written(true, 10_000), written(false, 20_000)),
        (vec!["5000 10000".to_owned()], vec!["20000".to_owned(), "10000".to_owned()])
    );
    assert_eq!([quota_in(1000, -1), quota_in(1000, 0), quota_in(1000, 50_000)], [-1, 0, 1000]);
}

#[test]
fn limits_are_written_as_each_version_wants_them() {
    let limits = Limits {
        cpu_shares: Some(1024),
        cpu_quota: Some(-1),
        memory: Some(1 << 20),
        pids: Some(-1),
        storage: None,
        hugepages: vec![("2MB".to_owned(), 0)],
        kept: KeptMemory { never_taken: Some(0), taken_last: Some(9) },
    };
    let shown = |unified| -> Vec<String> {
        writes(&limits, unified, PERIOD)
            .into_iter()
            .map(|(_, file, value)| format!("{file}={value}"))
            .collect()
    };
    assert_eq!(
        shown(true),
        [
            "cpu.weight=39",
            "cpu.max=max 100000",
            "memory.max=1048576",
            "memory.min=0",
            "memory.low=9",
            "pids.max=max",
            "hugetlb.2MB.max=0"
        ]
    );
    assert_eq!(
        shown(false),
        [
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=-1",
            "memory.limit_in_bytes=1048576",
            "pids.max=max",
            "hugetlb.2MB.limit_in_bytes=0"
        ]
    );
}

#[test]
fn what_a_group_uses_and_may_use_is_read_from_either_version() {
    let dir = tempfile::tempdir().unwrap();
    let group = dir.path().join("kubepods");
    fs::create_dir_all(&group).unwrap();
    for (file, text) in [
        ("memory.current", "1000\n"),
        ("memory.max", "max\n"),
        ("memory.usage_in_bytes", "2000\n"),
        ("memory.limit_in_bytes", "5000\n"),
        ("memory.stat", "inactive_anon 1\ninactive_file 300\ntotal_inactive_file 400\n"),
    ] {
        fs::write(group.join(file), text).unwrap();
    }
    let found = Hierarchies { unified: Some(dir.path().to_owned()), ..Hierarchies::default() };
    let two = Cgroups { found, ..Cgroups::default() };
    let one = split(dir.path());
    let of = |cgroups: &Cgroups, group: &str| {
        (cgroups.working_set(group).unwrap(), cgroups.memory_limit(group).unwrap())
    };
    assert_eq!(of(&two, "/kubepods"), (Some(700), None));
    assert_eq!(of(&one, "/kubepods"), (Some(1600), Some(5000)));
    assert_eq!(of(&one, "/none"), (None, None));
    fs::write(group.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
    assert_eq!(of(&one, "/kubepods").1, None);
}

#[tokio::test]
async fn a_group_is_removed_with_all_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let cgroups = split(dir.path());
    fs::create_dir_all(dir.path().join("kubepods/pod1/c")).unwrap();
    assert!(cgroups.exists("/kubepods/pod1"));
    cgroups.remove("/kubepods/pod1").await.unwrap();
    cgroups.remove("/kubepods/pod1").await.unwrap();
    assert!(!cgroups.exists("/kubepods/pod1"));
    assert!(dir.path().join("kubepods").exists());
    assert!(!dir.path().join("kubepods/pod1").exists());
}
