//! A registry on the loopback of a node, from which its runtime pulls: it speaks plain HTTP there without being told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::sched::{CloneFlags, setns};

use crate::cluster::Cluster;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is served: each by its name, a digest or a tag.
type Content = Arc<Mutex<HashMap<String, (String, Vec<u8>)>>>;

/// A registry that serves as long as the test lives.
pub struct Registry {
    port: u16,
    content: Content,
}

impl Registry {
    /// Listens in the network of the cluster's first node.
    pub fn start(cluster: &Cluster) -> Self {
        let node = format!("{}-1", cluster.name());
        let netns = PathBuf::from("/run/knarr").join(cluster.name()).join("nodes").join(node).join("netns");
        let content = Content::default();
        let serves = content.clone();
        let (tell, told) = std::sync::mpsc::channel();
        // Namespaces are a thread's own: whoever it starts is in the same one.
        std::thread::spawn(move || {
            setns(std::fs::File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            for stream in listener.incoming() {
                let (stream, content) = (stream.unwrap(), serves.clone());
                std::thread::spawn(move || answer(&stream, &content));
            }
        });
        Self { port: told.recv().unwrap(), content }
    }

    /// Serves the image of an archive, as `docker save` writes it; under which name.
    pub fn serve(&self, archive: &str, name: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let unpacked = Command::new("tar").arg("-C").arg(folder.path()).args(["-xf", archive]).status();
        assert!(unpacked.unwrap().success(), "{archive}");
        let read = |file: &str| std::fs::read(folder.path().join(file)).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let add = |kind: &str, file: &str| {
            let bytes = read(file);
            let digest = digest(&folder.path().join(file));
            let told = serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
            self.content.lock().unwrap().insert(digest, ("application/octet-stream".to_owned(), bytes));
            told
        };
        let config = add("application/vnd.oci.image.config.v1+json", list[0]["Config"].as_str().unwrap());
        let layers = list[0]["Layers"].as_array().unwrap().iter();
        let layers: Vec<_> = layers
            .map(|layer| add("application/vnd.oci.image.layer.v1.tar", layer.as_str().unwrap()))
            .collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.content
            .lock()
            .unwrap()
            .insert(name.to_owned(), (MANIFEST.to_owned(), manifest.to_string().into_bytes()));
        format!("127.0.0.1:{}/library/image:{name}", self.port)
    }
}

fn digest(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap().stdout;
    format!("sha256:{}", String::from_utf8(output).unwrap().split_whitespace().next().unwrap())
}

/// Answers one request: the last part of its path says what is wanted. Whoever asks may be killed meanwhile.
fn answer(stream: &TcpStream, content: &Content) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let wanted = first.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let found = content.lock().unwrap().get(wanted).cloned();
    let (status, (kind, bytes)) = match found {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", ("text/plain".to_owned(), Vec::new())),
    };
    let length = bytes.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
}
