use jiff::Timestamp;
use schema::Object;

use crate::field::Errors;
use crate::gates::Gates;

/// Which part of an object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object without its status.
    Main,
    /// The status alone.
    Status,
    /// Another subresource (`scale`, `binding`, `resize`, `ephemeralcontainers`, `approval`, `finalize`), which has
    /// made its change itself.
    Other(&'static str),
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading, in upstream's spelling (`Name`, `Nominated Node`).
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub ty: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// 0: always shown; 1: with `-o wide` only.
    pub priority: i32,
}

/// The contents of one cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
    /// A flag.
    Bool(bool),
}

/// Who makes an object.
#[derive(Debug, Clone, Copy)]
pub struct Creator<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The user's UID; empty when the way of authentication knows none.
    pub uid: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// Further attributes.
    pub extra: &'a std::collections::BTreeMap<String, Vec<String>>,
}

/// What is particular to a kind. Every function is pure and may be called with any decodable object.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Fills in defaults.
    pub defaults: fn(&mut Object),
    /// Takes out what belongs to features that are off, before anything else is prepared; `old` when it is changed.
    pub gated: fn(new: &mut Object, old: Option<&Object>, part: Part, gates: Gates),
    /// Clears what a creator may not set, and sets what every new object has (generation).
    pub prepare_create: fn(&mut Object),
    /// Writes down who makes a new object, for kinds that tell.
    pub created_by: fn(&mut Object, &Creator<'_>),
    /// Puts back what this write may not change (`new` becomes what will be stored), and raises the generation
    /// when the specification changed.
    pub prepare_update: fn(new: &mut Object, old: &Object, part: Part),
    /// Writes down since when something is so, now that the object is made or (`old`) changed.
    pub dated: fn(&mut Object, old: Option<&Object>, now: Timestamp),
    /// What is wrong with a new object, metadata excluded.
    pub validate: fn(&Object, &mut Errors),
    /// What is wrong with an object only because it is new; [`Rules::validate`] is called too.
    pub validate_create: fn(&Object, &mut Errors),
    /// What is wrong with a change, metadata excluded; the new object has its own `validate` called too.
    pub validate_update: fn(new: &Object, old: &Object, part: Part, errors: &mut Errors),
    /// What is told after all else: of a change, or of a new object that has to be looked at in upstream's order.
    pub validate_last: fn(new: &Object, old: Option<&Object>, part: Part, errors: &mut Errors),
    /// What its author should know of an object that is right (`Warning:` headers); `old` when it is changed.
    pub warnings: fn(new: &Object, old: Option<&Object>, part: Part) -> Vec<String>,
    /// The columns of `kubectl get`.
    pub columns: &'static [Column],
    /// One row of them; `now` in seconds since 1970, for ages.
    pub cells: fn(&Object, now: i64) -> Vec<Cell>,
    /// Field selectors beside `metadata.name` and `metadata.namespace`, with where their value is found.
    pub selectable: &'static [(&'static str, fn(&Object) -> String)],
    /// What `metadata.name` must be.
    pub name: crate::meta::NameRule,
    /// What of a change's metadata is looked at once more.
    pub looks: crate::meta::Looks,
    /// Says of an object that was read what its kind has no place for where it is stored.
    pub completes: fn(&mut Object),
    /// Whether [`Rules::completes`] has anything to say.
    pub has_more_than_stored: bool,
}

/// The rules of a kind; those that every object has where the kind has none of its own.
pub fn rules(group: &str, kind: &str) -> Rules {
    let mut rules = own_rules(group, kind);
    if let Some(warnings) = crate::pod::warnings_of_owner(group, kind) {
        rules.warnings = warnings;
    }
    match crate::columns::printed(group, kind) {
        Some((columns, cells)) => Rules { columns, cells, ..rules },
        None => rules,
    }
}

fn own_rules(group: &str, kind: &str) -> Rules {
    match (group, kind) {
        ("", "Pod") => crate::pod::RULES,
        ("", "Namespace") => crate::core_kinds::NAMESPACE,
        ("", "PodTemplate") => crate::pod::template::RULES,
        ("", "Node") => crate::node::RULES,
        ("", "LimitRange") => crate::limit_range::RULES,
        ("", "ConfigMap") => crate::data::CONFIG_MAP,
        ("", "Secret") => crate::data::SECRET,
        ("", "ServiceAccount") => crate::core_kinds::SERVICE_ACCOUNT,
        ("", "Service") => crate::service::RULES,
        ("", "Endpoints") => crate::core_kinds::ENDPOINTS,
        ("", "Event") => crate::event::CORE,
        ("events.k8s.io", "Event") => crate::event::OWN,
        ("", "PersistentVolume") => crate::storage::VOLUME,
        ("", "PersistentVolumeClaim") => crate::storage::CLAIM,
        ("resource.k8s.io", "ResourceClaim") => crate::resource::CLAIM,
        ("resource.k8s.io", "ResourceClaimTemplate") => crate::resource::TEMPLATE,
        ("resource.k8s.io", "DeviceClass") => crate::resource::CLASS,
        ("resource.k8s.io", "ResourceSlice") => crate::resource::SLICE,
        ("resource.k8s.io", "DeviceTaintRule") => crate::resource::RULE,
        ("storage.k8s.io", "StorageClass") => crate::storage::CLASS,
        ("storage.k8s.io", "CSINode") => crate::storage::CSI_NODE,
        ("storage.k8s.io", "CSIDriver") => crate::storage::CSI_DRIVER,
        ("storage.k8s.io", "VolumeAttachment") => crate::storage::ATTACHMENT,
        ("storage.k8s.io", "CSIStorageCapacity") => crate::storage::CAPACITY,
        ("policy", "PodDisruptionBudget") => crate::disruption::RULES,
        ("networking.k8s.io", "NetworkPolicy") => crate::storage::NETWORK_POLICY,
        ("autoscaling", "HorizontalPodAutoscaler") => crate::storage::AUTOSCALER,
        ("", "ReplicationController") => crate::workload::REPLICATION_CONTROLLER,
        ("apps", "Deployment") => crate::workload::DEPLOYMENT,
        ("apps", "ReplicaSet") => crate::workload::REPLICA_SET,
        ("apps", "StatefulSet") => crate::workload::STATEFUL_SET,
        ("apps", "DaemonSet") => crate::workload::DAEMON_SET,
        ("batch", "Job") => crate::workload::JOB,
        ("batch", "CronJob") => crate::workload::CRON_JOB,
        ("certificates.k8s.io", "CertificateSigningRequest") => crate::certificates::RULES,
        ("coordination.k8s.io", "Lease") => crate::core_kinds::LEASE,
        ("discovery.k8s.io", "EndpointSlice") => crate::core_kinds::ENDPOINT_SLICE,
        ("scheduling.k8s.io", "PriorityClass") => crate::classes::PRIORITY,
        ("node.k8s.io", "RuntimeClass") => crate::classes::RUNTIME,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => crate::access::ROLES,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => crate::access::BINDINGS,
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => crate::access::WEBHOOKS,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crate::access::DEFINITIONS,
        _ => GENERIC,
    }
}

/// The rules of a kind that has none of its own.
pub const GENERIC: Rules = Rules {
    defaults: |_| {},
    gated: |_, _, _, _| {},
    prepare_create: generic_prepare_create,
    created_by: |_, _| {},
    prepare_update: generic_prepare_update,
    dated: |_, _, _| {},
    validate: |_, _| {},
    validate_create: |_, _| {},
    validate_update: |_, _, _, _| {},
    validate_last: |_, _, _, _| {},
    warnings: |_, _, _| Vec::new(),
    columns: &[
        Column { name: "Name", ty: "string", format: "name", priority: 0 },
        Column { name: "Age", ty: "string", format: "", priority: 0 },
    ],
    cells: |object, now| {
        vec![Cell::Text(object.name().to_owned()), Cell::Text(crate::meta::age(object, now))]
    },
    selectable: &[],
    name: crate::meta::NameRule::Subdomain,
    looks: crate::meta::Looks::CHANGE,
    completes: |_| {},
    has_more_than_stored: false,
};

/// Clears the status and begins with generation 1 where the kind has a specification.
pub fn generic_prepare_create(object: &mut Object) {
    object.remove("status");
    if object.ty().field("spec").is_some() {
        object.set_generation(1);
    }
}

/// Keeps the status in a write of the object, everything else in a write of the status, and raises the
/// generation when anything but metadata and status changed.
pub fn generic_prepare_update(new: &mut Object, old: &Object, part: Part) {
    match part {
        Part::Main | Part::Other(_) => {
            if part == Part::Main && new.ty().field("status").is_some() {
                match old.get("status") {
                    Some(status) => {
                        new.set("status", status.clone());
                    }
                    None => {
                        new.remove("status");
                    }
                }
            }
            let same = match (new.struct_at(&["spec"]), old.struct_at(&["spec"])) {
                (Some(new), Some(old)) => crate::edit::same(new, old),
                _ => new.get("spec") == old.get("spec"),
            };
            let changed = new.ty().field("spec").is_some() && !same;
            new.set_generation(old.generation() + i64::from(changed));
        }
        Part::Status => {
            let status = new.remove("status");
            let metadata = new.metadata().clone();
            let version = new.resource_version().to_owned();
            *new = old.clone();
            // One that says nothing is an empty one: what was there is gone.
            match status {
                Some(status) => {
                    new.set("status", status);
                }
                None => {
                    new.remove("status");
                }
            }
            new.set_resource_version(&version);
            let managed =
                metadata.get("managedFields").or_else(|| old.metadata().get("managedFields")).cloned();
            let kept = metadata_of_status(new);
            if kept != Kept::Old {
                *new.metadata_mut() = metadata;
                new.set_generation(old.generation());
            }
            let of_old = old.metadata().get("labels").cloned().filter(|_| kept == Kept::NewButLabels);
            for (field, value) in [("managedFields", managed), ("labels", of_old)] {
                match value {
                    Some(value) => drop(new.metadata_mut().set(field, value)),
                    None if kept == Kept::NewButLabels => drop(new.metadata_mut().remove(field)),
                    None => {}
                }
            }
        }
    }
}

/// Whose metadata an object has after a write of its status.
#[derive(PartialEq, Eq)]
enum Kept {
    Old,
    New,
    NewButLabels,
}

/// The older kinds' strategies keep what a write of the status says of the metadata.
fn metadata_of_status(object: &Object) -> Kept {
    let name = &object.ty().name;
    let Some((group, kind)) = name.strip_prefix("io.k8s.api.").and_then(|name| name.split_once('.')) else {
        return Kept::Old;
    };
    match (group, kind.rsplit('.').next().unwrap_or_default()) {
        ("apps", "Deployment") => Kept::NewButLabels,
        ("apps" | "autoscaling" | "batch" | "core", _)
        | ("networking", "Ingress")
        | ("policy", "PodDisruptionBudget")
        | ("certificates", "CertificateSigningRequest") => Kept::New,
        _ => Kept::Old,
    }
}

/// A new custom object whose status is a subresource.
pub fn custom_prepare_create(object: &mut Object) {
    object.remove("status");
    object.set_generation(1);
}

/// A changed custom object whose status is a subresource.
pub fn custom_prepare_update(new: &mut Object, old: &Object, part: Part) {
    if part == Part::Status {
        generic_prepare_update(new, old, part);
        return;
    }
    match old.get("status") {
        Some(status) => {
            new.set("status", status.clone());
        }
        None => {
            new.remove("status");
        }
    }
    custom_prepare_whole(new, old, part);
}

/// A changed custom object: everything but its metadata counts for the generation.
pub fn custom_prepare_whole(new: &mut Object, old: &Object, _: Part) {
    let without_metadata = |object: &Object| {
        let mut rest = object.clone();
        rest.remove("metadata");
        rest
    };
    let changed = without_metadata(new) != without_metadata(old);
    new.set_generation(old.generation() + i64::from(changed));
}
