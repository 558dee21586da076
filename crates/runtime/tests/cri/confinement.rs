use std::os::unix::fs::MetadataExt;

use cri::v1::security_profile::ProfileType;
use cri::v1::*;

use crate::node::{IMAGE, Node};

fn context(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_groups_and_capabilities_are_what_was_asked_for() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("users")).await;
    let script =
        "id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME; grep NoNewPrivs /proc/self/status";
    let mut config = Node::shell("c", script);
    let asked = context(&mut config);
    asked.run_as_username = "app".into();
    asked.supplemental_groups = vec![77];
    asked.no_new_privs = true;
    asked.capabilities = Some(Capability { drop_capabilities: vec!["ALL".into()], ..Capability::default() });
    let (code, text) = node.script(&pod, config.clone()).await;
    assert_eq!(code, 0);
    let expected = "1000\n1000\n1000 10 77\nCapEff:\t0000000000000000\n/home/app\nNoNewPrivs:\t1";
    assert_eq!(text, expected);

    // The same for a command in it.
    config.command = vec!["sleep".into(), "100".into()];
    let id = node.run(&pod, config).await;
    assert_eq!(node.output(&id, script).await, expected);
    let status = node.status(&id).await;
    assert_eq!(status.user.unwrap().linux.unwrap().supplemental_groups, [10, 77, 1000]);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_profile_denies_namespaces_to_containers_and_their_commands() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("seccomp")).await;
    let script = "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo unshared; exit 0";
    let mut config = Node::shell("c", "sleep 100");
    context(&mut config).seccomp = Some(SecurityProfile {
        profile_type: ProfileType::RuntimeDefault as i32,
        localhost_ref: String::new(),
    });
    let id = node.run(&pod, config).await;
    assert_eq!(node.output(&id, "grep Seccomp: /proc/1/status").await, "Seccomp:\t2");
    assert_eq!(node.output(&id, script).await, "Seccomp:\t2");
    let open = node.run(&pod, Node::shell("open", "sleep 100")).await;
    assert_eq!(node.output(&open, script).await, "Seccomp:\t0\nunshared");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_systems_files_and_volumes() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("files")).await;
    let shared = node.folder.path().join("shared");
    let mut config = Node::shell("c", "sleep 100");
    config.working_dir = "/made/for/me".into();
    config.mounts = vec![
        Mount { container_path: "/data".into(), host_path: shared.display().to_string(), ..Mount::default() },
        Mount {
            container_path: "/ro".into(),
            host_path: shared.display().to_string(),
            readonly: true,
            ..Mount::default()
        },
    ];
    let asked = context(&mut config);
    asked.readonly_rootfs = true;
    asked.masked_paths = ["/proc/keys", "/sys/firmware", "/sys/fs", "/no/such"].map(str::to_owned).to_vec();
    asked.readonly_paths = vec!["/proc/sys".into()];
    let id = node.run(&pod, config).await;
    assert_eq!(
        node.output(&id, "cat /etc/hostname /etc/resolv.conf; touch /data/x; ls /ro").await,
        "files\nnameserver 10.0.0.10\nx"
    );
    for denied in [
        "touch /root/x",
        "touch /ro/y",
        "touch /proc/sys/kernel/x",
        "grep . /proc/keys",
        "touch /sys/firmware/x",
    ] {
        assert_ne!(node.exec(&id, &["sh", "-c", denied]).await.exit_code, 0, "{denied}");
    }
    assert!(shared.join("x").exists());
    // Folders are hidden by one that is empty, not by a file system for each.
    let hidden = "ls -A /sys/firmware /sys/fs | grep -v : | grep .; stat -c %d:%i /sys/firmware /sys/fs";
    let empty = std::fs::metadata(node.config.run_dir.join("empty")).unwrap();
    let number = format!("{}:{}", empty.dev(), empty.ino());
    assert_eq!(node.output(&id, hidden).await, [number.as_str(); 2].join("\n"));
    // Shared memory is the pod's.
    let other = node.run(&pod, Node::shell("other", "sleep 100")).await;
    node.output(&id, "echo here > /dev/shm/note").await;
    assert_eq!(node.output(&other, "cat /dev/shm/note").await, "here");
    assert!(node.output(&other, "pwd; touch /root/x").await.starts_with('/'));
    node.finish().await;
}

/// On many machines every mount is shared with whoever copies it, so that what is mounted on the copy comes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_sees_twice_is_not_mounted_on_the_machine() {
    use nix::mount::{MsFlags, mount, umount};

    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("twice")).await;
    let volume = node.folder.path().join("volume");
    std::fs::create_dir_all(volume.join("below")).unwrap();
    let nothing: Option<&str> = None;
    mount(Some(&volume), &volume, nothing, MsFlags::MS_BIND, nothing).unwrap();
    mount(nothing, &volume, nothing, MsFlags::MS_SHARED, nothing).unwrap();
    let mut config = Node::shell("c", "sleep 100");
    let places = [("/one", volume.clone()), ("/two", volume.clone()), ("/below", volume.join("below"))];
    config.mounts = places
        .map(|(inside, path)| Mount {
            container_path: inside.into(),
            host_path: path.display().to_string(),
            ..Mount::default()
        })
        .into();
    let id = node.run(&pod, config).await;
    assert_eq!(
        node.output(&id, "touch /one/x /below/y; ls /two /two/below").await,
        "/two:\nbelow\nx\n\n/two/below:\ny"
    );
    node.remove_pod(&pod).await;
    let left: Vec<_> = node.mounts().into_iter().filter(|path| path.starts_with(&volume)).collect();
    // One at the top of another is seen at the same place.
    while umount(&volume.join("below")).is_ok() || umount(&volume).is_ok() {}
    assert_eq!(left, [volume]);
    node.finish().await;
}

/// As drivers of storage and devices have the machine's: whoever makes a container's devices must not make them there.
#[tokio::test(flavor = "multi_thread")]
async fn a_dev_that_a_pod_brings_stays_as_it_is() {
    use nix::mount::{MsFlags, mount, umount};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("dev")).await;
    let dev = node.folder.path().join("dev");
    for folder in ["pts", "shm", "mqueue"] {
        std::fs::create_dir_all(dev.join(folder)).unwrap();
    }
    for file in ["ptmx", "mark", "shm/theirs"] {
        std::fs::write(dev.join(file), "").unwrap();
    }
    mknod(&dev.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
    std::os::unix::fs::symlink("/proc/self/fd", dev.join("fd")).unwrap();
    let nothing: Option<&str> = None;
    mount(Some(&dev), &dev, nothing, MsFlags::MS_BIND, nothing).unwrap();
    mount(nothing, &dev, nothing, MsFlags::MS_SHARED, nothing).unwrap();
    let listed = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&dev).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    let script = "ls /dev; grep -c ' /dev/pts devpts ' /proc/mounts; ls /dev/shm; touch /dev/made && rm /dev/made && echo written";
    for (name, propagation, readonly, expected) in [
        ("private", MountPropagation::PropagationPrivate, true, "1"),
        ("slave", MountPropagation::PropagationHostToContainer, false, "1\nwritten"),
        ("shared", MountPropagation::PropagationBidirectional, true, "0\ntheirs"),
    ] {
        let mut config = Node::shell(name, "sleep 100");
        context(&mut config).privileged = true;
        config.mounts = vec![Mount {
            container_path: "/dev".into(),
            host_path: dev.display().to_string(),
            propagation: propagation as i32,
            readonly,
            ..Mount::default()
        }];
        let id = node.run(&pod, config).await;
        let seen = node.output(&id, &format!("{{ {script}; }} 2>/dev/null; true")).await;
        assert_eq!(seen, format!("fd\nmark\nmqueue\nnull\nptmx\npts\nshm\n{expected}"), "{name}");
    }
    node.remove_pod(&pod).await;
    let left: Vec<_> = node.mounts().into_iter().filter(|path| path.starts_with(&dev)).collect();
    let after = listed();
    while umount(&dev).is_ok() {}
    assert_eq!((left, after), (vec![dev], before));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_changed_and_enforced() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("limits")).await;
    let limit = |bytes| LinuxContainerResources {
        memory_limit_in_bytes: bytes,
        cpu_shares: 512,
        ..Default::default()
    };
    let mut config = Node::shell("c", "sleep 100");
    config.linux.as_mut().unwrap().resources = Some(limit(64 << 20));
    let id = node.run(&pod, config).await;
    // Whoever is root inside does not set its own limits.
    let tried = "for at in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -e $at/cgroup.procs ] && echo seen; mkdir $at/x && [ -e $at/x/cgroup.procs ] && echo made; done 2>/dev/null; true";
    let tried = node.output(&id, tried).await;
    assert!(tried.contains("seen") && !tried.contains("made"), "{tried}");
    let available =
        |stats: ContainerStatsResponse| stats.stats.unwrap().memory.unwrap().available_bytes.map(|b| b.value);
    let read = |node: &Node| {
        let mut runtime = node.runtime.clone();
        let id = id.clone();
        async move {
            available(
                runtime
                    .container_stats(ContainerStatsRequest { container_id: id })
                    .await
                    .unwrap()
                    .into_inner(),
            )
        }
    };
    assert!(read(&node).await.unwrap() <= 64 << 20);
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(limit(128 << 20)),
        ..Default::default()
    };
    node.runtime.update_container_resources(update).await.unwrap();
    let now = read(&node).await.unwrap();
    assert!(now > 64 << 20 && now <= 128 << 20, "{now}");
    assert_eq!(node.status(&id).await.resources.unwrap().linux.unwrap().memory_limit_in_bytes, 128 << 20);

    let mut greedy = Node::shell("greedy", "dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived");
    greedy.linux.as_mut().unwrap().resources = Some(limit(16 << 20));
    greedy.command =
        vec!["dd".into(), "if=/dev/zero".into(), "of=/dev/null".into(), "bs=200M".into(), "count=1".into()];
    let id = node.run(&pod, greedy).await;
    let status = node.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_can_share_a_pid_namespace_or_the_machines_network() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("shared")).await;
    let mut config = Node::shell("a", "sleep 1234");
    context(&mut config).namespace_options =
        Some(NamespaceOption { pid: NamespaceMode::Pod as i32, ..Default::default() });
    let first = node.run(&pod, config.clone()).await;
    let second = node.run(&pod, config).await;
    let seen = node.output(&second, "cat /proc/1/comm; ps | grep -c '[s]leep 1234'").await;
    assert_eq!(seen, "knarr-init\n2");
    node.runtime.stop_container(StopContainerRequest { container_id: first, timeout: 0 }).await.unwrap();
    assert_eq!(node.status(&second).await.state(), ContainerState::ContainerRunning);

    let host = NamespaceOption {
        network: NamespaceMode::Node as i32,
        pid: NamespaceMode::Container as i32,
        ..Default::default()
    };
    let mut config = node.pod("hostnet");
    config.linux.as_mut().unwrap().security_context =
        Some(LinuxSandboxSecurityContext { namespace_options: Some(host.clone()), ..Default::default() });
    let pod = node.run_pod(config).await;
    let mut config = Node::shell("c", "sleep 100");
    context(&mut config).namespace_options = Some(host);
    let id = node.run(&pod, config).await;
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/net", node.pid(&id).await)).unwrap();
    assert_eq!(ours, theirs);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_has_devices_and_everything_we_have() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("privileged")).await;
    let mut config = Node::shell("c", "sleep 100");
    context(&mut config).privileged = true;
    let id = node.run(&pod, config).await;
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = ours.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    assert_eq!(node.output(&id, "grep CapEff /proc/self/status").await, format!("CapEff:\t{bounding}"));
    assert_eq!(node.output(&id, "mount -t tmpfs none /tmp && echo mounted").await, "mounted");
    assert_eq!(node.status(&id).await.image.unwrap().image, IMAGE);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_file_says_what_a_device_brings() {
    let mut node = Node::new().await;
    let spec = r#"{"cdiVersion": "0.6.0", "kind": "x.com/gpu", "devices": [{"name": "0", "containerEdits": {
        "env": ["GPU=0"], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "uid": 7}],
        "mounts": [{"hostPath": "FOLDER", "containerPath": "/driver", "options": ["ro"]}]}}]}"#;
    let folder = node.config.cdi_dirs[0].clone();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("x.json"), spec.replace("FOLDER", folder.to_str().unwrap())).unwrap();
    let pod = node.run_pod(node.pod("cdi")).await;
    let script = "echo $GPU; stat -c %u /dev/gpu0; echo x > /dev/gpu0 && ls /driver; touch /driver/y 2> /dev/null || echo ro";
    let mut config = Node::shell("c", script);
    config.cdi_devices = vec![CdiDevice { name: "x.com/gpu=0".into() }];
    assert_eq!(node.script(&pod, config.clone()).await, (0, "0\n7\nx.json\nro".into()));
    config.cdi_devices[0].name = "x.com/gpu=1".into();
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config),
        sandbox_config: Some(node.pod("cdi")),
    };
    let error = node.runtime.create_container(request).await.unwrap_err();
    assert!(error.message().contains("x.com/gpu=1"), "{error}");
    node.finish().await;
}
