//! Settings of the kernel that upstream's kubelet makes, or with `protectKernelDefaults` wants to find as it would make
//! them: memory may be promised more than once, whoever takes too much of it is killed and the machine goes on, a kernel
//! that panics starts anew, and there are keys for every container.

use std::path::Path;

/// Where they are.
pub const ROOT: &str = "/proc/sys";
const WANTED: [(&str, i64); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

/// Looks at them below `root`.
///
/// # Errors
/// Those that are others, in upstream's words.
pub fn check(root: &Path) -> Result<(), String> {
    let wrong: Vec<String> = differing(root)
        .into_iter()
        .map(|(name, wanted, found)| match found {
            Ok(found) => {
                format!("invalid kernel flag: {name}, expected value: {wanted}, actual value: {found}")
            }
            Err(why) => why,
        })
        .collect();
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// Makes them so. What cannot be made stays as it is, and is told of.
pub fn set(root: &Path) {
    for (name, wanted, found) in differing(root) {
        let done = match &found {
            Ok(_) => std::fs::write(root.join(name), wanted.to_string()).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match (done, found) {
            (Ok(()), Ok(found)) => tracing::info!(name, wanted, found, "the kernel's setting was changed"),
            (Err(error), _) => tracing::warn!(name, wanted, error, "the kernel's setting stays as it is"),
            (Ok(()), Err(_)) => {}
        }
    }
}

/// The names, what they should be, and what they are.
fn differing(root: &Path) -> Vec<(&'static str, i64, Result<i64, String>)> {
    let read = |name: &str| {
        let path = root.join(name);
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
        text.trim().parse().map_err(|error| format!("{}: {text:?}: {error}", path.display()))
    };
    let all = WANTED.into_iter().map(|(name, wanted)| (name, wanted, read(name)));
    all.filter(|(_, wanted, found)| found.as_ref() != Ok(wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_looked_at_or_made() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("kernel/keys")).unwrap();
        std::fs::create_dir(root.path().join("vm")).unwrap();
        for (name, wanted) in WANTED {
            std::fs::write(root.path().join(name), format!("{wanted}\n")).unwrap();
        }
        assert_eq!(check(root.path()), Ok(()));
        std::fs::write(root.path().join("kernel/panic"), "0\n").unwrap();
        let panic = "invalid kernel flag: kernel/panic, expected value: 10, actual value: 0";
        assert_eq!(check(root.path()), Err(panic.to_owned()));
        std::fs::write(root.path().join("vm/overcommit_memory"), "2\n").unwrap();
        let memory = "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 2";
        assert_eq!(check(root.path()), Err(format!("[{memory}, {panic}]")));
        set(root.path());
        assert_eq!(check(root.path()), Ok(()));
        std::fs::remove_file(root.path().join("kernel/panic_on_oops")).unwrap();
        set(root.path());
        assert!(check(root.path()).unwrap_err().contains("panic_on_oops: No such file"));
    }
}
