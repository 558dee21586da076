//! What cgroups are called where systemd makes them: the group `/kubepods/burstable/pod1-2` is
//! `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice` there. Pure.

const SUFFIX: &str = ".slice";

/// The path of a group's slice.
pub fn slices(group: &str) -> String {
    let (mut path, mut name) = (String::new(), String::new());
    for part in group.split('/').filter(|part| !part.is_empty()) {
        if !name.is_empty() {
            name.push('-');
        }
        // A dash says what is below what.
        name.push_str(&part.replace('-', "_"));
        path = format!("{path}/{name}{SUFFIX}");
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

/// The unit of a group.
pub fn unit(group: &str) -> String {
    match slices(group).rsplit_once('/') {
        Some((_, name)) if !name.is_empty() => name.to_owned(),
        _ => format!("-{SUFFIX}"),
    }
}

/// The group whose slice somebody names, such as `/system.slice` or `system`.
pub fn group(named: &str) -> String {
    let name = named.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let parts = name.strip_suffix(SUFFIX).unwrap_or(name).split('-').filter(|part| !part.is_empty());
    parts.map(|part| format!("/{}", part.replace('_', "-"))).collect()
}

/// The uid in the name of a pod's slice.
pub fn pod_of(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(SUFFIX)?;
    let last = name.rsplit('-').next()?;
    last.strip_prefix("pod").map(|uid| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_slices() {
        let path = slices("/a-b/kubepods/burstable/podu-1");
        assert_eq!(
            path,
            "/a_b.slice/a_b-kubepods.slice/a_b-kubepods-burstable.slice/a_b-kubepods-burstable-podu_1.slice"
        );
        assert_eq!(unit("/kubepods/podu-1"), "kubepods-podu_1.slice");
        assert_eq!(pod_of("kubepods-burstable-podu_1.slice").as_deref(), Some("u-1"));
        assert_eq!((pod_of("kubepods-burstable.slice"), pod_of("podu")), (None, None));
        assert_eq!((slices("/"), unit("/")), ("/".to_owned(), "-.slice".to_owned()));
    }

    #[test]
    fn slices_are_named_by_path_or_by_name() {
        for named in ["/kube.slice/kube-re_served.slice", "kube-re_served.slice", "kube-re_served"] {
            assert_eq!(group(named), "/kube/re-served", "{named}");
        }
        assert_eq!(slices(&group("/system.slice")), "/system.slice");
    }
}
