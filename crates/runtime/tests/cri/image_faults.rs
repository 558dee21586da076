//! Images and registries that mean harm.

use std::fs;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::image::{is_empty, pull, untold};
use crate::node::{Entry, Node, build, busybox, digest, layer};

/// A layer whose paths and links are as they are given, which no builder of archives would do.
fn raw_layer(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let is_file = *kind == tar::EntryType::Regular;
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        header.set_mode(0o777);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        let bytes = header.as_mut_bytes();
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        if !is_file {
            bytes[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, if is_file { content.as_bytes() } else { &[] }).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Every file and folder below, with what is in it.
fn snapshot(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        }
        found.push((path.clone(), fs::read(&path).ok()));
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_image_reaches_out_of_its_root() {
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    let node = Node::empty().await;
    let victim = tempfile::tempdir().unwrap();
    fs::create_dir(victim.path().join("dir")).unwrap();
    fs::write(victim.path().join("file"), "untouched").unwrap();
    fs::write(victim.path().join("dir/file"), "untouched").unwrap();
    let before = snapshot(victim.path());
    let out = victim.path().display().to_string();
    let (file, inside) = (format!("{out}/file"), format!("{out}/new"));
    let up = format!("../../../../../../../../../../..{out}/new");
    let far = format!("a/../../../../../../../../../../../..{out}/far");
    let magic = format!("p{out}/new");
    // One layer each: what is refused must not keep the others from being tried.
    let layers: Vec<Vec<(tar::EntryType, &str, &str)>> = vec![
        vec![(Regular, &inside, "written")],
        vec![(Regular, &up, "written")],
        vec![(Directory, "a", ""), (Regular, &far, "written")],
        vec![(Symlink, "out", &out), (Regular, "out/new", "written"), (Regular, "out/file", "written")],
        vec![(Symlink, "out", &out), (Directory, "out", ""), (Regular, "out/file", "written")],
        vec![(Symlink, "f", &file), (Regular, "f", "written")],
        vec![(Symlink, "out", &out), (Regular, "out/.wh.file", ""), (Regular, "out/.wh.dir", "")],
        vec![(Symlink, "out", &out), (Regular, "out/.wh..wh..opq", "")],
        vec![(Regular, ".wh...", "")],
        vec![(Regular, ".wh..", "")],
        vec![(Directory, "a", ""), (Regular, "a/.wh...", "")],
        vec![(Link, "hard", &file), (Regular, "hard", "written")],
        vec![(Link, "hard", "../../../../../../../../../../../etc/passwd")],
        vec![(Symlink, "s", &file), (Link, "hard", "s"), (Regular, "hard", "written")],
        vec![(Char, "null", ""), (Regular, "null", "written")],
        vec![(Symlink, "loop", "loop"), (Regular, "loop/x", "written")],
        vec![(Symlink, "p", "/proc/self/root"), (Regular, &magic, "written")],
    ];
    let passwd = fs::read("/etc/passwd").unwrap();
    let mut refused = 0;
    for (number, entries) in layers.iter().enumerate() {
        // Alone, and above another layer, where an overlay is written through.
        let under = layer(&[Entry::Folder("below", 0o755), Entry::File("below/x", b"x", 0o644)]);
        for stack in [vec![raw_layer(entries)], vec![under, raw_layer(entries)]] {
            let archive = node.folder.path().join("bad.tar");
            let name = format!("test.local/bad:{number}");
            fs::write(&archive, build(&stack, serde_json::json!({})).archive(&name)).unwrap();
            let result = runtime::import_client(&node.config.socket, &archive, |_| {}).await;
            refused += usize::from(result.is_err());
            assert_eq!(snapshot(victim.path()), before, "layer {number} wrote outside: {result:?}");
            assert_eq!(fs::read("/etc/passwd").unwrap(), passwd, "layer {number}");
            let known: Vec<_> = fs::read_dir(node.config.root.join("layers")).unwrap().flatten().collect();
            let unfinished = known.iter().any(|e| e.file_name().to_string_lossy().starts_with(".new-"));
            assert!(!unfinished, "layer {number} left {known:?}");
        }
    }
    assert!(refused > 0, "not even a whiteout of .. is refused");
    node.finish().await;
}

/// An image as `docker save` writes it, with a layer whose digest is whatever is said.
fn saved(layer: &[u8], diff: &str) -> Vec<u8> {
    let config =
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}).to_string();
    let manifest =
        r#"[{"Config": "config.json", "RepoTags": ["test.local/bad:1"], "Layers": ["layer.tar"]}]"#;
    crate::node::layer(&[
        Entry::File("config.json", config.as_bytes(), 0o644),
        Entry::File("layer.tar", layer, 0o644),
        Entry::File("manifest.json", manifest.as_bytes(), 0o644),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_named_by_nothing_but_a_digest() {
    let mut node = Node::empty().await;
    let victim = tempfile::tempdir().unwrap();
    // What looks like a layer that is there already.
    fs::create_dir(victim.path().join("fs")).unwrap();
    fs::write(victim.path().join("fs/secret"), "untouched").unwrap();
    fs::write(victim.path().join("size"), "1 1").unwrap();
    let before = snapshot(victim.path());
    let up = format!("{}{}", "../".repeat(12), victim.path().strip_prefix("/").unwrap().display());
    let content = layer(&[Entry::File("x", b"x", 0o644)]);
    let right = digest(&content);
    for diff in
        [up.clone(), format!("sha256:{up}"), String::new(), right.to_uppercase(), format!("{right}/..")]
    {
        let archive = node.folder.path().join("bad.tar");
        fs::write(&archive, saved(&content, &diff)).unwrap();
        let error = runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("is not the digest of a layer"), "{diff}: {error}");
        let images =
            node.images.list_images(cri::v1::ListImagesRequest::default()).await.unwrap().into_inner().images;
        assert!(images.is_empty(), "{diff}: {images:?}");
        assert_eq!(snapshot(victim.path()), before, "{diff}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_not_kept_in_memory() {
    let node = Node::empty().await;
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(5 << 20);
        header.set_cksum();
        tar.append(&header, &vec![b'x'; 5 << 20][..]).unwrap();
        let archive = node.folder.path().join("bad.tar");
        let content = tar.into_inner().unwrap();
        fs::write(&archive, build(&[content], serde_json::json!({})).archive("test.local/bad:1")).unwrap();
        let error = runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap_err();
        assert!(
            error.to_string().contains("the headers of an entry have more than 4 MiB"),
            "{kind:?}: {error}"
        );
        assert!(is_empty(&node, "layers"), "something is left");
    }
    node.finish().await;
}

#[expect(unsafe_code, reason = "nix has no extended attributes")]
#[tokio::test(flavor = "multi_thread")]
async fn no_image_tells_overlays_what_they_hide() {
    let node = Node::empty().await;
    let mut tar = tar::Builder::new(Vec::new());
    let attributes: [(&str, &[u8]); 2] =
        [("SCHILY.xattr.user.own", b"kept"), ("SCHILY.xattr.trusted.overlay.redirect", b"/elsewhere")];
    tar.append_pax_extensions(attributes).unwrap();
    let folder = layer(&[Entry::Folder("folder", 0o755)]);
    let content = [tar.get_ref().as_slice(), &folder].concat();
    let archive = node.folder.path().join("odd.tar");
    fs::write(&archive, build(&[content], serde_json::json!({})).archive("test.local/odd:1")).unwrap();
    runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap();
    let layer = fs::read_dir(node.config.root.join("layers")).unwrap().next().unwrap().unwrap();
    let folder = layer.path().join("fs/folder").into_os_string().into_encoded_bytes();
    let folder = std::ffi::CString::new(folder).unwrap();
    let mut names = [0u8; 1024];
    // SAFETY: the path ends with a NUL, and the buffer is as long as is said.
    let len = unsafe { libc::llistxattr(folder.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = String::from_utf8(names[..usize::try_from(len).unwrap()].to_vec()).unwrap();
    assert!(names.contains("user.own") && !names.contains("overlay"), "{names}");
    node.finish().await;
}

/// A registry that does the same whatever it is asked for.
async fn odd(answer: axum::routing::MethodRouter) -> String {
    let router = Router::new().fallback_service(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stalls_or_lies_is_an_error_that_names_it() {
    use axum::routing::any;
    let stall = std::time::Duration::from_millis(300);
    let mut node = Node::empty_with(|config| config.registries.stall = stall).await;
    let circle = |uri: axum::http::Uri| async move {
        let to = if uri.query() == Some("b") { "a" } else { "b" };
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("{}?{to}", uri.path()))])
    };
    let silent = any(|| async { std::future::pending::<()>().await });
    let page = any(|| async { ([(header::CONTENT_TYPE, "text/html")], "<html>log in first</html>") });
    let blanks = || {
        let blanks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        axum::body::Body::from_stream(blanks)
    };
    let endless = any(move || async move { blanks() });
    let refusal = any(move || async move { (StatusCode::SERVICE_UNAVAILABLE, blanks()) });
    let token = any(move |uri: axum::http::Uri, headers: axum::http::HeaderMap| async move {
        if uri.path() == "/token" {
            return blanks().into_response();
        }
        let host = headers[header::HOST].to_str().unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    });
    let begun = std::time::Instant::now();
    for (what, answer) in [
        ("redirects", any(circle)),
        ("silence", silent),
        ("a page", page),
        ("no end", endless),
        ("a refusal without end", refusal),
        ("a token without end", token),
    ] {
        let address = odd(answer).await;
        let error = pull(&mut node, &format!("{address}/test/busybox:1")).await.unwrap_err();
        let named = error.message().contains(&address) || error.message().contains("manifest sha256:");
        assert!(named, "{what}: {error}");
        assert!(is_empty(&node, "layers"), "{what}: something is left");
    }
    // Lengths: a layer that is shorter or longer than its manifest says, or of which that says nothing, and a manifest that is not what was asked for.
    let built = busybox();
    let (bad, manifest) = (built.layers[0].clone(), built.manifest.clone());
    let size = built.blobs.iter().find(|blob| digest(blob) == bad).unwrap().len() as i64;
    for change in [-1, 1, -size] {
        let lying = |digest: &str, blob: Vec<u8>| {
            if digest != manifest {
                return blob;
            }
            let text = String::from_utf8(blob).unwrap();
            text.replace(&format!("\"size\":{size}"), &format!("\"size\":{}", size + change)).into_bytes()
        };
        let address = untold(&built, lying).await;
        let error = pull(&mut node, &format!("{address}/test/busybox:1")).await.unwrap_err();
        assert!(error.message().contains(&bad), "{error}");
        let by_digest = format!("{address}/test/busybox@{}", built.manifest);
        let error = pull(&mut node, &by_digest).await.unwrap_err();
        assert!(error.message().contains(&built.manifest), "{error}");
        assert!(is_empty(&node, "layers"), "something is left");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it took {:?}", begun.elapsed());
    node.finish().await;
}
