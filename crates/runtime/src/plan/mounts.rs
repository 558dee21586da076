use std::path::Path;

use cri::v1::{
    ContainerConfig, LinuxContainerSecurityContext, Mount, MountPropagation, NamespaceMode, PodSandboxConfig,
};
use serde_json::{Value, json};

use super::resources::is_node;
use super::{Machine, PlanError, Surroundings, generated_files};

/// Whether a mount of the container has to become visible outside.
pub fn is_bidirectional(mount: &Mount) -> bool {
    mount.propagation() == MountPropagation::PropagationBidirectional
}

/// How mounts of the container's root behave towards the machine's.
pub fn propagation(config: &ContainerConfig) -> &'static str {
    let any = |wanted: MountPropagation| config.mounts.iter().any(|mount| mount.propagation() == wanted);
    if any(MountPropagation::PropagationBidirectional) {
        "shared"
    } else if any(MountPropagation::PropagationHostToContainer) {
        "slave"
    } else {
        "private"
    }
}

/// The container's own `/dev`.
pub fn dev() -> Value {
    let options = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": options})
}

fn file_systems(
    context: &LinuxContainerSecurityContext,
    machine: &Machine,
    around: &Surroundings,
) -> Vec<Value> {
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": source, "options": options});
    let hidden = ["nosuid", "noexec", "nodev"];
    let mode = if context.privileged { "rw" } else { "ro" };
    let sys = ["nosuid", "noexec", "nodev", mode];
    let mut list = vec![
        mount("/proc", "proc", "proc", &hidden),
        dev(),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &hidden),
        mount("/sys", "sysfs", "sysfs", &sys),
    ];
    let (places, cgroups) = &around.cgroups;
    if !cgroups.is_empty() && !context.privileged {
        let options = ["bind", "rprivate", "ro", "nosuid", "noexec", "nodev"];
        list.push(mount("/sys/fs/cgroup", "bind", &places.display().to_string(), &options));
        // Libcontainer would mount these for writing, whatever it is told, and whoever is root inside set its own limits.
        // It also takes a process's number in a pod's namespace for one of the machine's.
        let options = ["rbind", "rprivate", "ro", "nosuid", "noexec", "nodev"];
        for (place, folder) in cgroups {
            list.push(mount(place, "bind", &folder.display().to_string(), &options));
        }
    } else if machine.unified_cgroups || !context.privileged {
        list.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", mode],
        ));
    }
    list
}

/// All mounts, shallow ones first.
pub fn plan(
    pod: &PodSandboxConfig,
    config: &ContainerConfig,
    context: &LinuxContainerSecurityContext,
    machine: &Machine,
    around: &Surroundings,
) -> Result<Vec<Value>, PlanError> {
    let mut list = file_systems(context, machine, around);
    let given =
        |at: &str| config.mounts.iter().any(|mount| Path::new(&mount.container_path) == Path::new(at));
    let bind = |source: &Path, at: &str, options: &[&str]| json!({"destination": at, "type": "bind", "source": source, "options": options});
    let files =
        if context.readonly_rootfs { ["rbind", "rprivate", "ro"] } else { ["rbind", "rprivate", "rw"] };
    for (source, at) in generated_files(&around.pod) {
        if !given(at) && (at != "/etc/hostname" || !pod.hostname.is_empty()) {
            list.push(bind(&source, at, &files));
        }
    }
    if !given("/dev/shm") {
        let ipc = super::sandbox_options(pod).ipc();
        let shm = around.pod.join("shm");
        let source = if ipc == NamespaceMode::Node { Path::new("/dev/shm") } else { shm.as_path() };
        list.push(bind(source, "/dev/shm", &["rbind", "rprivate", "rw"]));
    }
    for device in config.devices.iter().filter(|device| !is_node(&device.container_path)) {
        list.push(bind(Path::new(&device.host_path), &device.container_path, &["bind", "rprivate", "rw"]));
    }
    let mut wanted: Vec<&Mount> = config.mounts.iter().collect();
    // A stable order: whoever mounts below another mount wants to be seen.
    wanted.sort_by_key(|mount| Path::new(&mount.container_path).components().count());
    for mount in wanted {
        // What the container brings replaces ours.
        list.retain(|have| have["destination"] != mount.container_path.as_str());
        list.push(volume(mount)?);
    }
    Ok(list)
}

fn volume(mount: &Mount) -> Result<Value, PlanError> {
    let refuse = |why: &str| Err(PlanError::Mount(mount.container_path.clone(), why.to_owned()));
    if !mount.container_path.starts_with('/') {
        return refuse("the path in the container is not absolute");
    }
    let is_image = mount.image.as_ref().is_some_and(|image| !image.image.is_empty());
    if is_image && !mount.readonly {
        return refuse("a volume of an image can only be read: set readonly");
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return refuse("users are mapped for it that are not those of its pod");
    }
    let mut options = vec!["rbind"];
    options.push(match mount.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    });
    options.push(match (mount.readonly, mount.recursive_read_only) {
        (true, true) if mount.propagation() != MountPropagation::PropagationPrivate => {
            return refuse("recursive_read_only needs private propagation");
        }
        (true, true) => "rro",
        (true, false) => "ro",
        (false, true) => return refuse("recursive_read_only needs readonly"),
        (false, false) => "rw",
    });
    options.extend(mount.mount_options.iter().map(String::as_str));
    Ok(
        json!({"destination": mount.container_path, "type": "bind", "source": mount.host_path, "options": options}),
    )
}

fn text<'a>(mount: &'a Value, key: &str) -> Option<&'a Path> {
    mount[key].as_str().map(Path::new)
}

/// Where a specification mounts over the container's own root, and, of what is bound, its source. What lies below another
/// place is not in the root.
pub fn places(spec: &Value) -> Vec<(&Path, Option<&Path>)> {
    let mounts = spec["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_outer = |place: &Path| {
        mounts.iter().filter_map(|mount| text(mount, "destination")).all(|other| {
            // Who binds something over the whole root has it made there.
            other == place || !place.starts_with(other)
        })
    };
    let place = |mount| {
        let source = text(mount, "source").filter(|_| mount["type"] == "bind");
        text(mount, "destination").filter(|place| is_outer(place)).map(|place| (place, source))
    };
    mounts.iter().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn places_below_others_are_not_in_the_root() {
        let spec = json!({"mounts": [
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/dev/shm", "type": "bind", "source": "/pod/shm"},
            {"destination": "/devices", "type": "bind", "source": "/a"},
            {"destination": "/etc/hosts", "type": "bind", "source": "/pod/hosts"},
        ]});
        let path = |path| Path::new(path);
        assert_eq!(
            places(&spec),
            [
                (path("/dev"), None),
                (path("/devices"), Some(path("/a"))),
                (path("/etc/hosts"), Some(path("/pod/hosts"))),
            ]
        );
        assert_eq!(places(&json!({})), []);
    }

    fn mount(at: &str) -> Mount {
        Mount { container_path: at.into(), host_path: "/src".into(), ..Mount::default() }
    }

    #[test]
    fn a_given_mount_replaces_ours_and_deep_ones_come_late() {
        let config = ContainerConfig {
            mounts: vec![mount("/data/deep"), mount("/data"), mount("/etc/resolv.conf"), mount("/dev/shm")],
            ..Default::default()
        };
        let list = plan(
            &PodSandboxConfig::default(),
            &config,
            &Default::default(),
            &Machine::default(),
            &Surroundings::default(),
        )
        .unwrap();
        let at: Vec<_> = list.iter().map(|m| m["destination"].as_str().unwrap()).collect();
        assert_eq!(at.iter().filter(|a| **a == "/etc/resolv.conf").count(), 1);
        let place = |what: &str| at.iter().position(|a| *a == what).unwrap();
        assert!(place("/data") < place("/data/deep"));
    }

    #[test]
    fn a_device_elsewhere_than_below_dev_is_mounted() {
        let device = |at: &str| cri::v1::Device {
            container_path: at.to_owned(),
            host_path: "/dev/loop0".to_owned(),
            permissions: "rwm".to_owned(),
        };
        let config = ContainerConfig {
            devices: vec![device("/dev/disk"), device("/data/disk")],
            ..ContainerConfig::default()
        };
        let around = Surroundings::default();
        let (pod, context) = (PodSandboxConfig::default(), LinuxContainerSecurityContext::default());
        let list = plan(&pod, &config, &context, &Machine::default(), &around).unwrap();
        let found: Vec<_> = list.iter().filter(|mount| mount["source"] == "/dev/loop0").collect();
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&one["destination"], &one["type"]), (&json!("/data/disk"), &json!("bind")));
    }

    #[test]
    fn cgroups_of_version_1_are_seen_and_not_changed() {
        let cgroups =
            vec![("/sys/fs/cgroup/memory".to_owned(), PathBuf::from("/sys/fs/cgroup/memory/pods/c"))];
        let around = Surroundings { cgroups: ("/run/cgroups".into(), cgroups), ..Surroundings::default() };
        let planned = |privileged| {
            let context = LinuxContainerSecurityContext { privileged, ..Default::default() };
            let (pod, config) = (PodSandboxConfig::default(), ContainerConfig::default());
            let list = plan(&pod, &config, &context, &Machine::default(), &around).unwrap();
            let below = |mount: &Value| mount["destination"].as_str().unwrap().starts_with("/sys/fs/cgroup");
            list.into_iter().filter(below).collect::<Vec<_>>()
        };
        let list = planned(false);
        let sources: Vec<_> = list.iter().map(|mount| mount["source"].as_str().unwrap()).collect();
        assert_eq!(sources, ["/run/cgroups", "/sys/fs/cgroup/memory/pods/c"]);
        let is_read_only = |mount: &Value| mount["options"].as_array().unwrap().contains(&json!("ro"));
        assert!(list.iter().all(is_read_only), "{list:?}");
        assert!(planned(true).is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let readonly = Mount { recursive_read_only: true, ..mount("/a") };
        assert!(volume(&readonly).is_err());
        assert!(volume(&mount("relative")).is_err());
        let slave = MountPropagation::PropagationHostToContainer as i32;
        let shown = Mount { readonly: true, recursive_read_only: true, propagation: slave, ..mount("/a") };
        assert!(volume(&shown).is_err());
        let image = Some(cri::v1::ImageSpec { image: "x".into(), ..Default::default() });
        assert!(volume(&Mount { image: image.clone(), ..mount("/a") }).is_err());
        let options = volume(&Mount { image, readonly: true, ..mount("/a") }).unwrap()["options"].to_string();
        assert!(options.contains("\"ro\""), "{options}");
    }

    #[test]
    fn one_shared_mount_makes_the_root_shared() {
        let shared = Mount { propagation: MountPropagation::PropagationBidirectional as i32, ..mount("/a") };
        let config = ContainerConfig { mounts: vec![mount("/b"), shared], ..Default::default() };
        assert_eq!(propagation(&config), "shared");
    }
}
