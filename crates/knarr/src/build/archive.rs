//! A built image as a file: for nodes, or as an OCI layout for everybody.

use std::io::{self, Read, Write};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Built;

/// A digest as images write it.
pub fn digest_text(bytes: &[u8]) -> String {
    format!("sha256:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn digest(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// Puts a file into the archive.
fn append(tar: &mut tar::Builder<impl Write>, path: &str, size: u64, data: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    tar.append_data(&mut header, path, data)
}

fn append_json(tar: &mut tar::Builder<impl Write>, path: &str, value: &Value) -> io::Result<()> {
    let bytes = value.to_string();
    append(tar, path, bytes.len() as u64, bytes.as_bytes())
}

/// What `docker save` writes, except that the base's layers are only named: nodes have them.
pub fn for_nodes(built: &Built, names: &[String], out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut layers: Vec<String> = (0..built.base_layers).map(|index| format!("base/{index}.tar")).collect();
    for (index, layer) in built.layers.iter().enumerate() {
        let path = format!("layers/{index}.tar");
        append(&mut tar, &path, layer.size, &layer.file)?;
        layers.push(path);
    }
    append(&mut tar, "config.json", built.config.len() as u64, built.config.as_slice())?;
    append_json(
        &mut tar,
        "manifest.json",
        &json!([{"Config": "config.json", "RepoTags": names, "Layers": layers}]),
    )?;
    tar.into_inner()?.flush()
}

/// An OCI layout. Only for images whose layers were all built here.
pub fn oci(built: &Built, names: &[String], out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    append_json(&mut tar, "oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    let blob = |digest: &str| format!("blobs/{}", digest.replacen(':', "/", 1));
    let mut layers = Vec::new();
    for layer in &built.layers {
        let known = layers
            .iter()
            .any(|have: &Value| have.get("digest").and_then(Value::as_str) == Some(&layer.digest));
        if !known {
            append(&mut tar, &blob(&layer.digest), layer.size, &layer.file)?;
        }
        let media = "application/vnd.oci.image.layer.v1.tar";
        layers.push(json!({"mediaType": media, "digest": layer.digest, "size": layer.size}));
    }
    let config = digest(&built.config);
    append(&mut tar, &blob(&config), built.config.len() as u64, built.config.as_slice())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": built.config.len()},
        "layers": layers,
    });
    let bytes = manifest.to_string();
    let manifest = digest(bytes.as_bytes());
    append(&mut tar, &blob(&manifest), bytes.len() as u64, bytes.as_bytes())?;
    let mut described = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": bytes.len(),
    });
    let mut manifests = Vec::new();
    for name in names {
        if let Some(fields) = described.as_object_mut() {
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            let named = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
            fields.insert("annotations".into(), named);
        }
        manifests.push(described.clone());
    }
    if manifests.is_empty() {
        manifests.push(described);
    }
    append_json(&mut tar, "index.json", &json!({"schemaVersion": 2, "manifests": manifests}))?;
    tar.into_inner()?.flush()
}
