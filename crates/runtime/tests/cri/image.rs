use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cri::v1::*;

use crate::node::{Built, Entry, IMAGE, Node, build, busybox, digest, layer};

/// A registry that serves blobs by digest, and one manifest under a tag.
struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    tag: String,
    /// Whether it tells the digest of what it sends: that which was asked for.
    tells: bool,
}

async fn manifest(
    State(registry): State<Arc<Registry>>,
    Path((_, _, reference)): Path<(String, String, String)>,
) -> Response {
    let digest = if reference == "1" { registry.tag.clone() } else { reference };
    match registry.blobs.get(&digest) {
        Some(bytes) => {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let mut response = ([(header::CONTENT_TYPE, kind)], bytes.clone()).into_response();
            if registry.tells {
                response.headers_mut().insert("docker-content-digest", digest.parse().unwrap());
            }
            response
        }
        None => (
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        )
            .into_response(),
    }
}

async fn blob(
    State(registry): State<Arc<Registry>>,
    Path((_, _, digest)): Path<(String, String, String)>,
) -> Response {
    registry
        .blobs
        .get(&digest)
        .map_or(StatusCode::NOT_FOUND.into_response(), |bytes| bytes.clone().into_response())
}

/// Serves an image as `<address>/test/busybox:1`.
pub async fn registry(built: &Built, spoil: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> String {
    serve(built, spoil, true).await
}

/// The same by a registry that does not tell the digests of its manifests.
pub async fn untold(built: &Built, spoil: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> String {
    serve(built, spoil, false).await
}

async fn serve(built: &Built, spoil: impl Fn(&str, Vec<u8>) -> Vec<u8>, tells: bool) -> String {
    let blobs = built.blobs.iter().map(|blob| (digest(blob), spoil(&digest(blob), blob.clone()))).collect();
    let state = Arc::new(Registry { blobs, tag: built.manifest.clone(), tells });
    let router = Router::new()
        .route("/v2/", axum::routing::get(|| async { "{}" }))
        .route("/v2/{a}/{b}/manifests/{reference}", axum::routing::get(manifest))
        .route("/v2/{a}/{b}/blobs/{digest}", axum::routing::get(blob))
        .with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

fn named(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.into(), ..ImageSpec::default() })
}

pub async fn pull(node: &mut Node, image: &str) -> Result<String, tonic::Status> {
    let request = PullImageRequest { image: named(image), auth: None, sandbox_config: None };
    Ok(node.images.pull_image(request).await?.into_inner().image_ref)
}

async fn find(node: &mut Node, image: &str) -> Option<Image> {
    let request = ImageStatusRequest { image: named(image), verbose: false };
    node.images.image_status(request).await.unwrap().into_inner().image
}

pub fn is_empty(node: &Node, folder: &str) -> bool {
    fs::read_dir(node.config.root.join(folder)).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_by_tag_and_digest_and_runs() {
    let mut node = Node::empty().await;
    let built = busybox();
    let address = registry(&built, |_, blob| blob).await;
    let name = format!("{address}/test/busybox:1");
    assert_eq!(find(&mut node, &name).await, None);
    let id = pull(&mut node, &name).await.unwrap();
    let by_digest = format!("{address}/test/busybox@{}", built.manifest);
    assert_eq!(pull(&mut node, &by_digest).await.unwrap(), id);
    let image = find(&mut node, &id).await.unwrap();
    assert_eq!((image.repo_tags, image.repo_digests), (vec![name.clone()], vec![by_digest.clone()]));
    assert!(image.size > 100_000);
    let verbose = ImageStatusRequest { image: named(&name), verbose: true };
    let info = node.images.image_status(verbose).await.unwrap().into_inner().info;
    assert!(info["info"].contains("imageSpec") && info["info"].contains("diff_ids"), "{info:?}");

    let pod = node.run_pod(node.pod("pulled")).await;
    let config = ContainerConfig { image: named(&by_digest), ..Node::shell("c", "echo works") };
    assert_eq!(node.script(&pod, config).await, (0, "works".into()));

    let info = node.images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert!(info.image_filesystems[0].used_bytes.unwrap().value > 100_000);
    node.remove_pod(&pod).await;
    for _ in 0..2 {
        node.images.remove_image(RemoveImageRequest { image: named(&name) }).await.unwrap();
    }
    assert_eq!(find(&mut node, &name).await, None);
    assert!(is_empty(&node, "layers"), "layers are left");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_layer_is_named_and_leaves_nothing() {
    let mut node = Node::empty().await;
    let built = busybox();
    let bad = built.layers[0].clone();
    let address = registry(&built, |digest, mut blob| {
        if digest == bad {
            let middle = blob.len() / 2;
            blob[middle] ^= 1;
        }
        blob
    })
    .await;
    let error = pull(&mut node, &format!("{address}/test/busybox:1")).await.unwrap_err();
    assert!(error.message().contains(&bad) && error.message().contains("corrupt"), "{}", error.message());
    assert!(is_empty(&node, "layers"), "something is left");
    let missing = pull(&mut node, &format!("{address}/test/busybox:2")).await.unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound, "{missing}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upper_layers_change_and_hide_what_is_below() {
    let mut node = Node::new().await;
    let program = fs::read("/bin/busybox").unwrap();
    let below = layer(&[
        Entry::Folder("bin", 0o755),
        Entry::File("bin/busybox", &program, 0o755),
        Entry::Symlink("bin/sh", "busybox"),
        Entry::Symlink("bin/ls", "busybox"),
        Entry::Symlink("bin/cat", "busybox"),
        Entry::Symlink("bin/stat", "busybox"),
        Entry::Folder("usr", 0o755),
        Entry::Folder("usr/lib", 0o711),
        Entry::File("usr/lib/kept", b"kept", 0o644),
        Entry::File("usr/lib/gone", b"gone", 0o644),
        Entry::Symlink("lib", "usr/lib"),
        Entry::Folder("whole", 0o755),
        Entry::File("whole/old", b"old", 0o644),
        Entry::Folder("becomes-file", 0o755),
        Entry::File("becomes-file/x", b"x", 0o644),
        // Absolute, and led out of the image if it were followed carelessly.
        Entry::Symlink("escape", "/tmp"),
    ]);
    let above = layer(&[
        Entry::File("usr/lib/.wh.gone", b"", 0o644),
        Entry::File("lib/through-link", b"new", 0o644),
        Entry::File("whole/new", b"new", 0o600),
        Entry::File("whole/.wh..wh..opq", b"", 0o644),
        Entry::File("becomes-file", b"file", 0o644),
        Entry::Hardlink("linked", "usr/lib/kept"),
        Entry::File("escape/inside", b"caught", 0o644),
    ]);
    let built = build(&[below, above], serde_json::json!({"Env": ["PATH=/bin"]}));
    let archive = node.folder.path().join("layers.tar");
    fs::write(&archive, built.archive("test.local/layers:1")).unwrap();
    runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap();
    let pod = node.run_pod(node.pod("layers")).await;
    let script =
        "ls usr/lib; ls whole; cat becomes-file linked; echo; cat /tmp/inside; echo; stat -c %a usr/lib";
    let config = ContainerConfig { image: named("test.local/layers:1"), ..Node::shell("c", script) };
    let (code, text) = node.script(&pod, config).await;
    assert_eq!((code, text.as_str()), (0, "kept\nthrough-link\nnew\nfilekept\ncaught\n711"));
    assert!(!std::path::Path::new("/tmp/inside").exists());
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_docker_archive_is_imported() {
    let node = Node::empty().await;
    let program = fs::read("/bin/busybox").unwrap();
    let only = layer(&[Entry::Folder("bin", 0o755), Entry::File("bin/sh", &program, 0o755)]);
    let config = serde_json::json!({"config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(&only)]}})
        .to_string();
    let manifest = r#"[{"Config":"c.json","RepoTags":["busybox:docker"],"Layers":["x/layer.tar"]}]"#;
    let tar = layer(&[
        Entry::File("c.json", config.as_bytes(), 0o644),
        Entry::File("x/layer.tar", &only, 0o644),
        Entry::File("manifest.json", manifest.as_bytes(), 0o644),
    ]);
    let archive = node.folder.path().join("docker.tar.gz");
    fs::write(&archive, crate::node::gzip(&tar)).unwrap();
    let mut steps = 0;
    let names = runtime::import_client(&node.config.socket, &archive, |_| steps += 1).await.unwrap();
    assert_eq!(names, ["docker.io/library/busybox:docker"]);
    assert!(steps > 0);
    fs::write(&archive, "no archive").unwrap();
    let error = runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("not an image archive"), "{error}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_moves_to_the_newer_image() {
    let mut node = Node::new().await;
    let old = find(&mut node, IMAGE).await.unwrap().id;
    let built = build(&[layer(&[Entry::Folder("other", 0o755)])], serde_json::json!({"User": "7:8"}));
    let archive = node.folder.path().join("other.tar");
    fs::write(&archive, built.archive(IMAGE)).unwrap();
    runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap();
    let new = find(&mut node, IMAGE).await.unwrap();
    assert_ne!(new.id, old);
    assert_eq!(new.uid.unwrap().value, 7);
    assert_eq!(find(&mut node, &old).await.unwrap().repo_tags, Vec::<String>::new());
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_a_removed_image_go_with_its_last_container() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("last")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 1000")).await;
    node.images.remove_image(RemoveImageRequest { image: named(IMAGE) }).await.unwrap();
    assert!(!is_empty(&node, "layers"), "the container's layers are gone");
    assert_eq!(node.output(&id, "echo still here").await, "still here");
    node.restart().await;
    assert!(!is_empty(&node, "layers"), "the container's layers are gone");
    node.runtime.remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
    assert!(is_empty(&node, "layers"), "layers are left");
    node.finish().await;
}

const BLOBS: &str = "images/blobs/sha256";

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_a_removed_image_go_with_their_last_user() {
    let mut node = Node::new().await;
    assert!(!is_empty(&node, BLOBS));
    let pod = node.run_pod(node.pod("last")).await;
    let remove = || RemoveImageRequest { image: named(IMAGE) };
    let first = node.run(&pod, Node::shell("c", "sleep 1000")).await;
    node.images.remove_image(remove()).await.unwrap();
    // A container needs its configuration still, also one of whose image a killed runtime knows nothing more.
    node.restart().await;
    assert!(!is_empty(&node, BLOBS), "a container's configuration is gone");
    // Whoever brings the same image again has the same blobs.
    node.import_busybox().await;
    node.runtime.remove_container(RemoveContainerRequest { container_id: first }).await.unwrap();
    let image = find(&mut node, IMAGE).await.unwrap();
    let kept = node.config.root.join(BLOBS).join(image.id.strip_prefix("sha256:").unwrap());
    assert!(kept.exists(), "an image's configuration is gone");
    let second = node.run(&pod, Node::shell("d", "sleep 1000")).await;
    node.images.remove_image(remove()).await.unwrap();
    assert!(kept.exists(), "a container's configuration is gone");
    node.runtime.remove_container(RemoveContainerRequest { container_id: second }).await.unwrap();
    assert!(is_empty(&node, BLOBS), "blobs are left");
    // A pull that was killed before its image was known.
    fs::write(node.config.root.join(BLOBS).join("c".repeat(64)), "lost").unwrap();
    node.restart().await;
    assert!(is_empty(&node, BLOBS), "a blob that nobody has is left");
    node.finish().await;
}

/// A registry at the level of bytes, which can break off, stall or lie. Counts what it is asked for.
struct Rough {
    address: String,
    asked: Arc<parking_lot::Mutex<Vec<String>>>,
}

/// What a rough registry does with a blob's bytes: how many of them it sends before it hangs up.
type Cut = fn(asked_before: usize, len: usize) -> usize;

/// Serves an image; the blob `cut_blob` is cut short as `cut` says, and sent from where a range begins.
async fn rough(built: &Built, cut_blob: String, cut: Cut) -> Rough {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let blobs: HashMap<String, Vec<u8>> =
        built.blobs.iter().map(|blob| (digest(blob), blob.clone())).collect();
    let (tag, asked) = (built.manifest.clone(), Arc::new(parking_lot::Mutex::new(Vec::new())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            let (mut path, mut from) = (String::new(), 0usize);
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(rest) = line.strip_prefix("GET ") {
                    path = rest.split(' ').next().unwrap().to_owned();
                }
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let name = path.split('?').next().unwrap().rsplit('/').next().unwrap();
            let name = if name == "1" { tag.clone() } else { name.to_owned() };
            let Some(bytes) = blobs.get(&name) else {
                let answer = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
                continue;
            };
            let before = seen.lock().iter().filter(|path: &&String| path.contains(&name)).count();
            seen.lock().push(format!("{path} from {from}"));
            let end = if name == cut_blob { cut(before, bytes.len()).max(from) } else { bytes.len() };
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\r\n",
                bytes.len() - from,
                bytes.len() - 1,
                bytes.len(),
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&bytes[from..end]).await;
        }
    });
    Rough { address, asked }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_its_connection_broke() {
    let mut node = Node::empty().await;
    let built = busybox();
    let layer = built.layers[0].clone();
    let registry = rough(&built, layer.clone(), |before, len| match before {
        0 => len / 3,
        1 => len / 2,
        _ => len,
    })
    .await;
    pull(&mut node, &format!("{}/test/busybox:1", registry.address)).await.unwrap();
    let asked: Vec<String> =
        registry.asked.lock().iter().filter(|path| path.contains(&layer)).cloned().collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].ends_with("from 0") && !asked[1].ends_with("from 0"), "{asked:?}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_always_breaks_off_is_an_error_in_the_end() {
    let mut node = Node::empty().await;
    let built = busybox();
    let registry = rough(&built, built.layers[0].clone(), |_, len| len / 3).await;
    let error = pull(&mut node, &format!("{}/test/busybox:1", registry.address)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert!(is_empty(&node, "layers"), "something is left");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_their_lies_are_passed_over() {
    let mut node = Node::empty_with(|config| {
        config.registries.config_dir = Some(config.root.with_file_name("registries"));
    })
    .await;
    let built = busybox();
    let spoilt = built.layers[0].clone();
    let liar = registry(&built, move |digest, mut blob| {
        if digest == spoilt {
            blob[100] ^= 1;
        }
        blob
    })
    .await;
    // Of one nothing is what its headers say, and of the other nothing is anything.
    let forger = registry(&built, |_, blob| [blob, b" ".to_vec()].concat()).await;
    let page = registry(&built, |_, _| b"<html>".to_vec()).await;
    let honest = rough(&built, String::new(), |_, len| len).await;
    let folder = node.config.registries.config_dir.clone().unwrap().join("images.example");
    fs::create_dir_all(&folder).unwrap();
    let hosts = format!(
        "server = \"http://127.0.0.1:9\"\n[host.\"http://{forger}\"]\n[host.\"http://{page}\"]\n\
         [host.\"http://{liar}\"]\n[host.\"http://{}\"]\n",
        honest.address
    );
    // The files are read at each pull: the runtime runs already.
    fs::write(folder.join("hosts.toml"), hosts).unwrap();
    pull(&mut node, "images.example/test/busybox:1").await.unwrap();
    let image = find(&mut node, "images.example/test/busybox:1").await.unwrap();
    assert_eq!(image.repo_tags, ["images.example/test/busybox:1"]);
    assert_eq!(image.repo_digests, [format!("images.example/test/busybox@{}", built.manifest)]);
    let asked = honest.asked.lock().clone();
    assert!(asked.iter().all(|path| path.contains("?ns=images.example")), "{asked:?}");
    assert!(asked.iter().any(|path| path.contains(&built.layers[0])), "{asked:?}");
    fs::write(folder.join("hosts.toml"), "host = 1").unwrap();
    let error = pull(&mut node, "images.example/test/busybox:1").await.unwrap_err();
    assert!(error.message().contains("hosts.toml"), "{error}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_a_volume_and_stays_while_it_is_one() {
    let mut node = Node::new().await;
    let below = layer(&[Entry::Folder("data", 0o755), Entry::File("data/a", b"below", 0o644)]);
    let above = layer(&[Entry::File("data/b", b"above", 0o644), Entry::Symlink("link", "/data")]);
    let archive = node.folder.path().join("volume.tar");
    fs::write(&archive, build(&[below, above], serde_json::json!({})).archive("test.local/volume:1"))
        .unwrap();
    runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap();
    let pod = node.run_pod(node.pod("volume")).await;
    let mount = |at: &str, sub: &str| Mount {
        container_path: at.into(),
        readonly: true,
        image: named("test.local/volume:1"),
        image_sub_path: sub.into(),
        ..Mount::default()
    };
    let mut config =
        Node::shell("c", "cat /whole/data/a /sub/b /followed/a; touch /sub/c 2> /dev/null || echo ro");
    config.mounts = vec![mount("/whole", ""), mount("/sub", "data"), mount("/followed", "link")];
    assert_eq!(node.script(&pod, config.clone()).await, (0, "belowabovebelowro".into()));
    let mut waiting = Node::shell("w", "cat /whole/data/b; sleep 1000");
    waiting.mounts = vec![mount("/whole", "")];
    let id = node.run(&pod, waiting).await;
    node.images.remove_image(RemoveImageRequest { image: named("test.local/volume:1") }).await.unwrap();
    assert_eq!(node.output(&id, "cat /whole/data/a").await, "below");
    config.mounts[0].readonly = false;
    let request = CreateContainerRequest { pod_sandbox_id: pod, config: Some(config), sandbox_config: None };
    node.runtime.create_container(request).await.unwrap_err();
    node.finish().await;
}
