//! What a machine cannot give, whatever runs on it: tests that fail for that are told of, and not held against anybody.

/// What a test is called, what it fails with, and why.
type Limit = (&'static str, &'static str, &'static str);

const ALL: &[Limit] = &[
    ("PrivilegedPod", "type dummy", "this kernel has no dummy links"),
    ("", "/proc/1/ns/mnt", "the machine's first process may not be looked into"),
    ("", "oom_score_adj", "root may not lower an oom_score_adj here"),
    (
        "ImageVolume",
        "Timed out",
        "no registry has the images that nodes were given, and the policy Always asks one",
    ),
    ("", "setting rlimit", "root may not raise a limit here"),
];

/// Why a test cannot pass on this machine, if that is why it failed.
pub(super) fn explains(name: &str, failure: &str) -> Option<&'static str> {
    let fits = |limit: &&Limit| name.contains(limit.0) && failure.contains(limit.1);
    ALL.iter().find(fits).map(|(_, _, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::explains;

    #[test]
    fn a_limit_explains_only_what_it_is_about() {
        let dummy = "ip link add dummy1 type dummy: Operation not supported";
        assert_eq!(
            explains("[sig-node] PrivilegedPod should enable", dummy),
            Some("this kernel has no dummy links")
        );
        assert_eq!(explains("[sig-node] Pods should run", dummy), None);
        assert_eq!(explains("[sig-node] PrivilegedPod should enable", "timed out"), None);
    }
}
