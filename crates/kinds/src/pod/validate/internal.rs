//! How upstream's internal types (`pkg/apis/core`) differ from those that are served: the names of their fields,
//! their order, and what stands elsewhere.

use std::borrow::Cow;

use schema::types::{Field, Struct};

/// Where a field stands.
pub(super) enum Place<'a> {
    /// In its struct, under this name.
    As(Cow<'a, str>),
    /// Its own fields stand in its struct, as they are served.
    Inlined,
    /// In the pod's security context.
    Elsewhere,
    /// The security context, to which the pod's host namespaces belong.
    WithHost,
}

/// The fields of the specification that upstream keeps in the security context, in its order.
const HOST: [&str; 5] = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];

/// Those of a struct that [`Place::WithHost`] is about.
pub(super) fn host_fields(ty: &Struct) -> impl Iterator<Item = &Field> {
    HOST.iter().filter_map(|name| ty.field(name)).map(|(_, field)| field)
}

/// The fields of a struct in the order of its internal twin.
pub(super) fn order(ty: &Struct) -> Vec<&Field> {
    let mut fields: Vec<&Field> = ty.fields.iter().collect();
    for (name, moved, after) in MOVED {
        if !ty.name.ends_with(name) {
            continue;
        }
        let place = |wanted: &str, fields: &[&Field]| fields.iter().position(|field| &*field.json == wanted);
        if let Some(from) = place(moved, &fields) {
            let field = fields.remove(from);
            let to = place(after, &fields).map_or(fields.len(), |at| at + 1);
            fields.insert(to, field);
        }
    }
    fields
}

/// Of the structs with this name: the field, and the one that it comes after.
const MOVED: [(&str, &str, &str); 6] = [
    (".v1.PersistentVolumeSpec", "quobyte", "rbd"),
    (".v1.Volume", "quobyte", "rbd"),
    (".v1.PodSecurityContext", "sysctls", "fsGroupChangePolicy"),
    (".v1.PodSpec", "setHostnameAsFQDN", "subdomain"),
    (".v1.PodSpec", "preemptionPolicy", "priority"),
    (".v1.PodSpec", "overhead", "runtimeClassName"),
];

/// The values of a device's attribute.
fn attribute(json: &str) -> &str {
    match json {
        "int" => "IntValue",
        "bool" => "BoolValue",
        "string" => "StringValue",
        "version" => "VersionValue",
        "ints" => "IntValues",
        "bools" => "BoolValues",
        "strings" => "StringValues",
        "versions" => "VersionValues",
        other => other,
    }
}

/// Where a field of a struct stands.
pub(super) fn place<'a>(ty: &str, json: &'a str) -> Place<'a> {
    let of = ty.rsplit('.').next().unwrap_or_default();
    match (of, json) {
        ("PodSpec", "serviceAccount") => Place::Elsewhere,
        ("PodSpec", "securityContext") => Place::WithHost,
        ("PodSpec", json) if HOST.contains(&json) => Place::Elsewhere,
        ("PersistentVolumeClaimTemplate" | "ResourceClaimTemplateSpec" | "PodTemplateSpec", "metadata") => {
            Place::Inlined
        }
        ("DeviceAttribute", json) => Place::As(attribute(json).into()),
        ("GlusterfsVolumeSource", "endpoints") => Place::As("EndpointsName".into()),
        ("RBDVolumeSource", "monitors") => Place::As("CephMonitors".into()),
        ("RBDVolumeSource", "image") => Place::As("RBDImage".into()),
        ("RBDVolumeSource", "pool") => Place::As("RBDPool".into()),
        ("RBDVolumeSource", "user") => Place::As("RadosUser".into()),
        (_, json) => Place::As(go_name(json)),
    }
}

/// `runAsUser` is `RunAsUser`, and what Go spells otherwise is listed.
pub(super) fn go_name(json: &str) -> Cow<'_, str> {
    let listed = NAMES.iter().find(|(name, _)| *name == json).map(|(_, go)| *go);
    listed.map_or_else(
        || {
            let mut letters = json.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>().into()
        },
        Into::into,
    )
}

const NAMES: [(&str, &str); 37] = [
    ("apiGroup", "APIGroup"),
    ("apiVersion", "APIVersion"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("cel", "CEL"),
    ("cephfs", "CephFS"),
    ("chapAuthDiscovery", "DiscoveryCHAPAuth"),
    ("chapAuthSession", "SessionCHAPAuth"),
    ("csi", "CSI"),
    ("diskURI", "DataDiskURI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("gmsaCredentialSpec", "GMSACredentialSpec"),
    ("gmsaCredentialSpecName", "GMSACredentialSpecName"),
    ("grpc", "GRPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("ip", "IP"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("iscsiInterface", "ISCSIInterface"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("pdName", "PDName"),
    ("rbd", "RBD"),
    ("seLinuxChangePolicy", "SELinuxChangePolicy"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("sslEnabled", "SSLEnabled"),
    ("storageos", "StorageOS"),
    ("tcpSocket", "TCPSocket"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("wwids", "WWIDs"),
];
