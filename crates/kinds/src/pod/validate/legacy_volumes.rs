//! Sources of volumes that belong to one vendor or protocol.

use schema::Object;

use super::paths;
use super::read::{has, int, is_true, list, maybe, sub, text, texts};
use super::volume::{required, within};
use crate::content;
use crate::field::{At, Errors, Json};

/// Checks one source; `parent` is the volume.
pub(super) fn check(field: &str, source: &Object, volume: &str, parent: &At<'_>, errors: &mut Errors) {
    let at = &parent.child(field);
    match field {
        "gitRepo" => {
            required(source, &["repository"], at, errors);
            paths::descending(text(source, "directory"), &at.child("directory"), errors);
        }
        // Upstream names this one otherwise than the field is called.
        "gcePersistentDisk" => disk(source, "pdName", &parent.child("persistentDisk"), errors),
        "awsElasticBlockStore" => disk(source, "volumeID", at, errors),
        "iscsi" => iscsi(source, volume, parent, errors),
        "glusterfs" => required(source, &["endpoints", "path"], at, errors),
        "flocker" => flocker(source, at, errors),
        "rbd" => {
            filled(source, "monitors", at, errors);
            required(source, &["image"], at, errors);
        }
        "cinder" => {
            required(source, &["volumeID"], at, errors);
            secret_name(source, at, errors);
        }
        "cephfs" => filled(source, "monitors", at, errors),
        "quobyte" => quobyte(source, at, errors),
        "fc" => fibre_channel(source, at, errors),
        "flexVolume" => {
            required(source, &["driver"], at, errors);
            flex_options(source, at, errors);
        }
        "azureFile" => required(source, &["secretName", "shareName"], at, errors),
        "azureDisk" => azure_disk(source, at, errors),
        "vsphereVolume" => required(source, &["volumePath"], at, errors),
        "photonPersistentDisk" => required(source, &["pdID"], at, errors),
        "portworxVolume" => required(source, &["volumeID"], at, errors),
        "storageos" => storage_os(source, at, errors),
        "scaleIO" => required(source, &["gateway", "system", "volumeName"], at, errors),
        _ => {}
    }
}

fn filled(source: &Object, field: &str, at: &At<'_>, errors: &mut Errors) {
    if list(source, field).is_empty() {
        errors.required(&at.child(field), "");
    }
}

fn secret_name(source: &Object, at: &At<'_>, errors: &mut Errors) {
    if sub(source, "secretRef").is_some_and(|secret| text(secret, "name").is_empty()) {
        errors.required(&at.child("secretRef.name"), "");
    }
}

fn disk(source: &Object, name: &str, at: &At<'_>, errors: &mut Errors) {
    required(source, &[name], at, errors);
    within(source, "partition", 255, "must be between 1 and 255, inclusive", at, errors);
}

fn iscsi(source: &Object, volume: &str, parent: &At<'_>, errors: &mut Errors) {
    let at = &parent.child("iscsi");
    required(source, &["targetPortal"], at, errors);
    match text(source, "iqn") {
        "" => errors.required(&at.child("iqn"), ""),
        name => match initiator(name) {
            Initiator::Right => {}
            Initiator::Unknown => {
                errors.invalid(&at.child("iqn"), name, "must be valid format starting with iqn, eui, or naa");
            }
            Initiator::Malformed => errors.invalid(&at.child("iqn"), name, "must be valid format"),
        },
    }
    within(source, "lun", 255, "must be between 0 and 255, inclusive", at, errors);
    let authenticated = is_true(source, "chapAuthDiscovery") || is_true(source, "chapAuthSession");
    if authenticated && !has(source, "secretRef") {
        errors.required(&at.child("secretRef"), "");
    }
    let Some(name) = maybe(source, "initiatorName") else { return };
    let place = at.child("initiatorname");
    match initiator(name) {
        Initiator::Right => {}
        Initiator::Unknown => {
            errors.invalid(&place, name, "must be valid format starting with iqn, eui, or naa");
        }
        Initiator::Malformed => errors.invalid(&place, name, "must be valid format"),
    }
    if volume.len() + 1 + text(source, "targetPortal").len() > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.invalid(&parent.child("name"), volume, why);
    }
}

enum Initiator {
    Right,
    Unknown,
    Malformed,
}

/// How the name of an initiator reads: `iqn.2015-02.example.com:disk`, `eui.` and 16 or `naa.` and 32 characters.
fn initiator(name: &str) -> Initiator {
    let alphanumeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let fixed = |rest: &str, length: usize| {
        let mut rest = rest.chars();
        // The pattern has any character where the dot stands.
        rest.next().is_some() && rest.as_str().len() == length && alphanumeric(rest.as_str())
    };
    let right = match name.get(..3) {
        Some("iqn") => iqn(name),
        Some("eui") => name.get(3..).is_some_and(|rest| fixed(rest, 16)),
        Some("naa") => name.get(3..).is_some_and(|rest| fixed(rest, 32)),
        _ => return Initiator::Unknown,
    };
    if right { Initiator::Right } else { Initiator::Malformed }
}

fn iqn(name: &str) -> bool {
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let dated = date
        .split_once('-')
        .is_some_and(|(year, month)| year.len() == 4 && month.len() == 2 && digits(year) && digits(month));
    let Some((authority, unique)) = rest.split_once(':') else { return false };
    let named = !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let free = !unique.is_empty() && !unique.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r']);
    dated && named && free
}

fn flocker(source: &Object, at: &At<'_>, errors: &mut Errors) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(at, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        errors.invalid(&at.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &Object, at: &At<'_>, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        errors.required(&at.child("registry"), PAIRS);
    } else if text(source, "tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&at.child("tenant"), why);
    } else {
        for pair in registry.split(',') {
            let is_pair = pair.rsplit_once(':').is_some_and(|(host, port)| {
                !port.contains(']') && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'))
            });
            if !is_pair {
                errors.invalid(&at.child("registry"), registry, PAIRS);
            }
        }
    }
    required(source, &["volume"], at, errors);
}

fn fibre_channel(source: &Object, at: &At<'_>, errors: &mut Errors) {
    let (targets, ids) = (list(source, "targetWWNs"), list(source, "wwids"));
    if targets.is_empty() && ids.is_empty() {
        errors.required(&at.child("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
    }
    if targets.is_empty() {
        return;
    }
    if !ids.is_empty() {
        let shown: Vec<String> = texts(source, "targetWWNs").map(|name| format!("{name:?}")).collect();
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&at.child("targetWWNs"), Json(format!("[{}]", shown.join(","))), why);
    }
    match int(source, "lun") {
        None => errors.required(&at.child("lun"), "lun is required if targetWWNs is specified"),
        Some(_) => within(source, "lun", 255, "must be between 0 and 255, inclusive", at, errors),
    }
}

fn flex_options(source: &Object, at: &At<'_>, errors: &mut Errors) {
    for (key, _) in super::read::entries(source, "options") {
        let domain = key.split('/').next().unwrap_or_default().to_lowercase();
        let reserved = |name: &str| domain == name || domain.ends_with(&format!(".{name}"));
        if reserved("kubernetes.io") || reserved("k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.child("options").key(key), key, why);
        }
    }
}

fn azure_disk(source: &Object, at: &At<'_>, errors: &mut Errors) {
    required(source, &["diskName", "diskURI"], at, errors);
    for (field, allowed) in
        [("cachingMode", ["None", "ReadOnly", "ReadWrite"]), ("kind", ["Dedicated", "Managed", "Shared"])]
    {
        if let Some(value) = maybe(source, field).filter(|value| !allowed.contains(value)) {
            errors.not_supported(&at.child(field), value, &allowed);
        }
    }
    let (kind, uri) = (maybe(source, "kind"), text(source, "diskURI"));
    if kind == Some("Managed") && !uri.starts_with("/subscriptions/") {
        let form =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        errors.not_supported(&at.child("diskURI"), uri, &[form]);
    }
    if kind.is_some_and(|kind| kind != "Managed") && !uri.starts_with("https://") {
        let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        errors.not_supported(&at.child("diskURI"), uri, &[form]);
    }
}

fn storage_os(source: &Object, at: &At<'_>, errors: &mut Errors) {
    match text(source, "volumeName") {
        "" => errors.required(&at.child("volumeName"), ""),
        name => errors.each(&at.child("volumeName"), name, content::label(name)),
    }
    match text(source, "volumeNamespace") {
        "" => {}
        name => errors.each(&at.child("volumeNamespace"), name, content::label(name)),
    }
    secret_name(source, at, errors);
}
