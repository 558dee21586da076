//! What of the kernel's file systems a container is not to see.

use cri::v1::LinuxContainerSecurityContext;
use serde_json::{Value, json};

use super::Surroundings;

/// How it is hidden.
#[derive(Debug, PartialEq)]
pub struct Masks {
    /// Mounts of an empty folder, which come after all others.
    pub mounts: Vec<Value>,
    /// What is left to whoever starts the container.
    pub paths: Vec<String>,
}

/// Decides. One empty folder hides all folders that are known before: whoever starts a container makes a file system for
/// each of them, and the kernel keeps something for each file system in each memory cgroup.
pub fn plan(context: &LinuxContainerSecurityContext, around: &Surroundings) -> Masks {
    let (empty, folders) = &around.hidden;
    let asked = if context.privileged { &[] } else { context.masked_paths.as_slice() };
    let (by_mount, paths) = asked.iter().cloned().partition::<Vec<_>, _>(|path| folders.contains(path));
    let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];
    let mount = |at| json!({"destination": at, "type": "bind", "source": empty, "options": options});
    Masks { mounts: by_mount.iter().map(mount).collect(), paths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_folder_hides_those_that_are_known() {
        let around = Surroundings {
            hidden: ("/run/empty".into(), vec!["/proc/acpi".into(), "/sys/firmware".into()]),
            ..Surroundings::default()
        };
        let masked_paths = ["/proc/keys", "/proc/acpi"].map(str::to_owned).to_vec();
        let mut context = LinuxContainerSecurityContext { masked_paths, ..Default::default() };
        let Masks { mounts, paths } = plan(&context, &around);
        assert_eq!(paths, ["/proc/keys"]);
        let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!((&mount["destination"], &mount["source"]), (&json!("/proc/acpi"), &json!("/run/empty")));
        assert!(mount["options"].as_array().unwrap().contains(&json!("ro")));
        context.privileged = true;
        assert_eq!(plan(&context, &around), Masks { mounts: Vec::new(), paths: Vec::new() });
    }
}
