//! Files of one volume that would lie over each other.

use schema::Object;

use super::Warnings;
use crate::pod::validate::read::{has, items, maybe, sub, text};

#[derive(PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        match self.source.as_str() {
            "" => format!("{:?}", self.path),
            source => format!("{:?} ({source})", self.path),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let within = |inner: &Self, outer: &Self| {
            let rest = inner.path.strip_prefix(outer.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.path.is_empty() && !other.path.is_empty() && (within(self, other) || within(other, self))
    }
}

/// Looks at every volume that is made of files.
pub(super) fn check(spec: &Object, warnings: &mut Warnings) {
    for volume in items(spec, "volumes") {
        let name = text(volume, "name");
        for (field, what, source) in [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")]
        {
            if let Some(found) = sub(volume, field) {
                let described = format!("{what} {:?}", text(found, source));
                report_all(name, &described, files(found, ""), warnings);
            }
        }
        if let Some(downward) = sub(volume, "downwardAPI") {
            report_all(name, "DownwardAPI", files(downward, ""), warnings);
        }
        if let Some(projected) = sub(volume, "projected") {
            let mut earlier = Vec::new();
            for source in items(projected, "sources") {
                if source.fields().next().is_none() {
                    warnings.all.push(format!("volume {name:?} (Projected) has no sources provided"));
                }
                for file in projection(source) {
                    report(name, "Projected", &file, &earlier, warnings);
                    earlier.push(file);
                }
            }
        }
    }
}

fn files(source: &Object, shown: &str) -> Vec<File> {
    items(source, "items").map(|item| File::new(text(item, "path"), shown)).collect()
}

fn projection(source: &Object) -> Vec<File> {
    for (field, what) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if let Some(found) = sub(source, field).filter(|found| has(found, "items")) {
            return files(found, &format!("{what} {:?}", text(found, "name")));
        }
    }
    if let Some(downward) = sub(source, "downwardAPI").filter(|found| has(found, "items")) {
        return files(downward, "DownwardAPI");
    }
    if let Some(token) = sub(source, "serviceAccountToken") {
        return vec![File::new(text(token, "path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = sub(source, "clusterTrustBundle") {
        let name = maybe(bundle, "name").unwrap_or_else(|| text(bundle, "signerName"));
        return vec![File::new(text(bundle, "path"), &format!("ClusterTrustBundle {name:?}"))];
    }
    let Some(certificate) = sub(source, "podCertificate") else { return Vec::new() };
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .filter(|(field, _)| !text(certificate, field).is_empty())
    .map(|(field, what)| File::new(text(certificate, field), what))
    .collect()
}

fn report_all(volume: &str, described: &str, files: Vec<File>, warnings: &mut Warnings) {
    for (index, file) in files.iter().enumerate() {
        report(volume, described, file, files.get(..index).unwrap_or_default(), warnings);
    }
}

fn report(volume: &str, described: &str, file: &File, earlier: &[File], warnings: &mut Warnings) {
    for earlier in earlier.iter().filter(|earlier| file.overlaps(earlier)) {
        warnings.all.push(format!(
            "volume {volume:?} ({described}): overlapping paths: {} with {}",
            file.shown(),
            earlier.shown()
        ));
    }
}
