//! Images and registries that mean harm.

use std::fs;

use axum::Router;
use axum::http::{StatusCode, header};

use crate::image::{is_empty, pull, registry};
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
    let endless = any(|| async {
        let zeros = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        axum::body::Body::from_stream(zeros)
    });
    let begun = std::time::Instant::now();
    for (what, answer) in
        [("redirects", any(circle)), ("silence", silent), ("a page", page), ("no end", endless)]
    {
        let address = odd(answer).await;
        let error = pull(&mut node, &format!("{address}/test/busybox:1")).await.unwrap_err();
        let named = error.message().contains(&address) || error.message().contains("manifest sha256:");
        assert!(named, "{what}: {error}");
        assert!(is_empty(&node, "layers"), "{what}: something is left");
    }
    // Lengths: a layer that is shorter or longer than its manifest says, and a manifest that is not what was asked for.
    let built = busybox();
    for change in [-1i64, 1] {
        let (bad, manifest) = (built.layers[0].clone(), built.manifest.clone());
        let size = built.blobs.iter().find(|blob| digest(blob) == bad).unwrap().len() as i64;
        let lying = |digest: &str, blob: Vec<u8>| {
            if digest != manifest {
                return blob;
            }
            let text = String::from_utf8(blob).unwrap();
            text.replace(&format!("\"size\":{size}"), &format!("\"size\":{}", size + change)).into_bytes()
        };
        let address = registry(&built, lying).await;
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
