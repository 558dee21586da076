//! Pods whose users are not the machine's.

use std::os::unix::fs::MetadataExt;

use cri::v1::*;

use crate::node::{IMAGE, Node};

const FIRST: u32 = 200_000;

fn users() -> UserNamespace {
    let mapping = IdMapping { host_id: FIRST, container_id: 0, length: 65_536 };
    UserNamespace { mode: NamespaceMode::Pod as i32, uids: vec![mapping], gids: vec![mapping] }
}

fn pod(node: &Node, name: &str, options: NamespaceOption) -> PodSandboxConfig {
    let mut pod = node.pod(name);
    pod.linux.as_mut().unwrap().security_context = Some(LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption { userns_options: Some(users()), ..options }),
        ..LinuxSandboxSecurityContext::default()
    });
    pod.linux.as_mut().unwrap().sysctls = [("net.ipv4.ip_default_ttl".to_owned(), "63".to_owned())].into();
    pod
}

fn container(name: &str, pid: NamespaceMode) -> ContainerConfig {
    let mut config = Node::shell(name, "echo mine > /tmp/written; id -u; exec sleep 100");
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(NamespaceOption {
        pid: pid as i32,
        userns_options: Some(users()),
        ..NamespaceOption::default()
    });
    config
}

fn mapped(mount: Mount) -> Mount {
    Mount { uid_mappings: users().uids, gid_mappings: users().gids, ..mount }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_in_a_pod_is_nobody_outside_and_owns_its_image_and_volumes() {
    let mut node = Node::new().await;
    let pod = node.run_pod(pod(&node, "users", NamespaceOption::default())).await;
    let volume = node.folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("given"), "given").unwrap();
    let mut config = container("c", NamespaceMode::Container);
    config.working_dir = "/made/for/me".into();
    let image = Some(ImageSpec { image: IMAGE.into(), ..ImageSpec::default() });
    config.mounts = vec![
        mapped(Mount {
            container_path: "/data".into(),
            host_path: volume.display().to_string(),
            ..Mount::default()
        }),
        mapped(Mount {
            container_path: "/given".into(),
            host_path: volume.join("given").display().to_string(),
            readonly: true,
            ..Mount::default()
        }),
        Mount { container_path: "/image".into(), image, readonly: true, ..Mount::default() },
    ];
    let id = node.run(&pod, config).await;

    let process = node.pid(&id).await;
    let map = std::fs::read_to_string(format!("/proc/{process}/uid_map")).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    assert_eq!(std::fs::metadata(format!("/proc/{process}")).unwrap().uid(), FIRST);

    // Who owns what, as the container sees it and as the machine does.
    let owners = "ls -lnd /bin/busybox /tmp/written /made/for/me /data/given /given /image/etc /etc/resolv.conf \
                  /dev/shm /proc/1 | while read m l u g rest; do echo $u:$g; done";
    assert_eq!(node.output(&id, owners).await, ["0:0"; 9].join("\n"));
    node.output(&id, "id -u; echo more > /data/more; echo x > /dev/null; cat /given; ls /sys/class/net")
        .await;
    assert_eq!(
        std::fs::metadata(volume.join("more")).unwrap().uid(),
        0,
        "the volume's file system knows root"
    );
    let written = node.config.root.join("containers").join(&id).join("upper/tmp/written");
    assert_eq!(std::fs::metadata(written).unwrap().uid(), FIRST);
    assert_eq!(node.output(&id, "cat /proc/sys/net/ipv4/ip_default_ttl; hostname").await, "63\nusers");

    // Root in there has no power over the machine.
    let denied = node.exec(&id, &["sh", "-c", "echo 1 > /proc/sys/kernel/panic_on_oops"]).await;
    assert_ne!(denied.exit_code, 0);
    assert_eq!(
        node.output(&id, "cat /proc/self/uid_map | while read a b c; do echo $b; done").await,
        "200000"
    );

    // What a killed runtime left is found and goes.
    node.restart().await;
    assert_eq!(node.output(&id, "id -u").await, "0");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_with_users_share_processes() {
    let mut node = Node::new().await;
    let options = NamespaceOption { pid: NamespaceMode::Pod as i32, ..NamespaceOption::default() };
    let pod = node.run_pod(pod(&node, "shared", options)).await;
    let one = node.run(&pod, container("one", NamespaceMode::Pod)).await;
    let two = node.run(&pod, container("two", NamespaceMode::Pod)).await;
    // Each is a shell at first.
    let both = "until [ $(ps -o args | grep -c '^sleep 100') = 2 ]; do sleep 0.01; done";
    node.output(&two, both).await;
    node.output(&one, "kill $(ps -o pid,args | grep '[s]leep 100' | while read p rest; do echo $p; done)")
        .await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_make_no_sense_are_refused() {
    let mut node = Node::new().await;
    let host = NamespaceOption { network: NamespaceMode::Node as i32, ..NamespaceOption::default() };
    let wrong = pod(&node, "host", host);
    let error = node.try_run_pod(wrong).await.unwrap_err();
    assert!(error.message().contains("network"), "{error}");
    let mut rootless = pod(&node, "rootless", NamespaceOption::default());
    let context = rootless.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    let asked = context.namespace_options.as_mut().unwrap().userns_options.as_mut().unwrap();
    asked.uids[0].container_id = 5;
    let error = node.try_run_pod(rootless).await.unwrap_err();
    assert!(error.message().contains("root"), "{error}");
    // A mount for other users than the pod's.
    let pod = node.run_pod(node.pod("plain")).await;
    let mut config = Node::shell("c", "true");
    config.mounts =
        vec![mapped(Mount { container_path: "/a".into(), host_path: "/tmp".into(), ..Mount::default() })];
    let error = node.try_create(&pod, config).await.unwrap_err();
    assert!(error.message().contains("not those of its pod"), "{error}");
    node.finish().await;
}
