//! Short ways to what a pod's object says. Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, ObjectReference, Pod, PodSecurityContext, PodSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

/// The shortest time that a container is given to stop of itself.
pub const MINIMUM_GRACE: i64 = 2;

/// From this priority on a pod is critical for the system.
pub const CRITICAL: i32 = 2_000_000_000;

/// What of a pod is asked for again and again.
pub trait PodExt {
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn uid(&self) -> &str;
    fn spec(&self) -> Option<&PodSpec>;
    fn phase(&self) -> &str;
    /// As upstream writes a pod in messages: `name_namespace(uid)`.
    fn described(&self) -> String;
    fn restart_policy(&self) -> &str;
    fn init_containers(&self) -> &[Container];
    fn containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    /// Any of its containers, of whichever kind.
    fn container(&self, name: &str) -> Option<Cow<'_, Container>>;
    /// The images that a container mounts.
    fn mounted_images<'p>(&'p self, container: &'p Container) -> impl Iterator<Item = &'p str>;
    /// What kind of container it is, as metrics name it: `container`, `init_container` or `ephemeral_container`.
    fn kind_of(&self, container: &str) -> &'static str;
    fn host_network(&self) -> bool;
    fn security(&self) -> Option<&PodSecurityContext>;
    /// How long its containers have to stop, in seconds.
    fn grace(&self) -> i64;
    fn is_deleting(&self) -> bool;
    fn is_terminal(&self) -> bool;
    /// Whether the system needs it, by its priority (`scheduling.SystemCriticalPriority`).
    fn is_critical(&self) -> bool;
    /// When it has been active for too long.
    fn deadline(&self, started: Option<Timestamp>) -> Option<Timestamp>;
    /// What an event about it, or about one of its containers, refers to.
    fn reference(&self, container: Option<&str>) -> ObjectReference;
}

impl PodExt for Pod {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.spec.as_ref()
    }

    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn described(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn restart_policy(&self) -> &str {
        self.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
    }

    fn init_containers(&self) -> &[Container] {
        self.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
    }

    fn containers(&self) -> &[Container] {
        self.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
    }

    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
    }

    fn container(&self, name: &str) -> Option<Cow<'_, Container>> {
        let lasting = self.init_containers().iter().chain(self.containers()).find(|c| c.name == name);
        let ephemeral = || self.ephemeral_containers().iter().find(|container| container.name == name);
        lasting
            .map(Cow::Borrowed)
            .or_else(|| ephemeral().map(|container| Cow::Owned(as_container(container))))
    }

    fn mounted_images<'p>(&'p self, container: &'p Container) -> impl Iterator<Item = &'p str> {
        let volumes = self.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let is_mounted =
            |name: &str| container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
        let mounted = volumes.iter().filter(move |volume| is_mounted(&volume.name));
        mounted.filter_map(|volume| volume.image.as_ref()?.reference.as_deref())
    }

    fn kind_of(&self, container: &str) -> &'static str {
        let has = |list: &[Container]| list.iter().any(|one| one.name == container);
        match (has(self.init_containers()), has(self.containers())) {
            (true, _) => "init_container",
            (_, true) => "container",
            _ => "ephemeral_container",
        }
    }

    fn host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    fn security(&self) -> Option<&PodSecurityContext> {
        self.spec.as_ref().and_then(|spec| spec.security_context.as_ref())
    }

    fn grace(&self) -> i64 {
        let spec = self.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        self.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30).max(0)
    }

    fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn is_terminal(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    fn is_critical(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL)
    }

    fn deadline(&self, started: Option<Timestamp>) -> Option<Timestamp> {
        let seconds = self.spec.as_ref().and_then(|spec| spec.active_deadline_seconds)?;
        started?.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
    }

    fn reference(&self, container: Option<&str>) -> ObjectReference {
        let field_path = container.map(|name| {
            let init = self.init_containers().iter().any(|container| container.name == name);
            let ephemeral = self.ephemeral_containers().iter().any(|container| container.name == name);
            let list = match (init, ephemeral) {
                (true, _) => "initContainers",
                (_, true) => "ephemeralContainers",
                _ => "containers",
            };
            format!("spec.{list}{{{name}}}")
        });
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: self.metadata.name.clone(),
            namespace: self.metadata.namespace.clone(),
            uid: self.metadata.uid.clone(),
            resource_version: self.metadata.resource_version.clone(),
            field_path,
        }
    }
}

/// Init containers, then the others, each with whether it runs on beside those that come after it.
pub fn in_turn(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let inits = pod.init_containers().iter().map(|init| (init, is_sidecar(init)));
    inits.chain(pod.containers().iter().map(|main| (main, true)))
}

/// Whether an init container is a sidecar: it goes on beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container as one of the others.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let ephemeral = ephemeral.clone();
    Container {
        args: ephemeral.args,
        command: ephemeral.command,
        env: ephemeral.env,
        env_from: ephemeral.env_from,
        image: ephemeral.image,
        image_pull_policy: ephemeral.image_pull_policy,
        lifecycle: ephemeral.lifecycle,
        liveness_probe: ephemeral.liveness_probe,
        name: ephemeral.name,
        ports: ephemeral.ports,
        readiness_probe: ephemeral.readiness_probe,
        resize_policy: ephemeral.resize_policy,
        resources: ephemeral.resources,
        restart_policy: ephemeral.restart_policy,
        restart_policy_rules: ephemeral.restart_policy_rules,
        security_context: ephemeral.security_context,
        startup_probe: ephemeral.startup_probe,
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path,
        termination_message_policy: ephemeral.termination_message_policy,
        tty: ephemeral.tty,
        volume_devices: ephemeral.volume_devices,
        volume_mounts: ephemeral.volume_mounts,
        working_dir: ephemeral.working_dir,
    }
}

/// What a container's own rules say of its exit: the action of the first that fits (KEP-5307, KEP-5532).
fn rule(container: &Container, exit_code: i32) -> Option<&str> {
    let fits = |rule: &&ContainerRestartRule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let named = codes.values.as_ref().is_some_and(|values| values.contains(&exit_code));
            match codes.operator.as_str() {
                "In" => named,
                "NotIn" => !named,
                _ => false,
            }
        })
    };
    container.restart_policy.as_ref()?;
    container.restart_policy_rules.iter().flatten().find(fits).map(|rule| rule.action.as_str())
}

/// Whether a container may start again after it exited so.
pub fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if matches!(rule(container, exit_code), Some("Restart" | "RestartAllContainers")) {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or_else(|| pod.restart_policy()) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether the exit of a container means that all of the pod begin anew.
pub fn restarts_all(container: &Container, exit_code: i32) -> bool {
    rule(container, exit_code) == Some("RestartAllContainers")
}

/// Whether some exit of a container lets all others begin anew.
pub fn could_restart_all(pod: &Pod) -> bool {
    pod.init_containers().iter().chain(pod.containers()).any(|container| {
        let rules = container.restart_policy_rules.iter().flatten();
        rules.into_iter().any(|rule| rule.action == "RestartAllContainers")
    })
}

/// The number of a container's port.
pub fn port_number(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|port| *port != 0),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => u16::try_from(port.container_port).ok(),
                None => name.parse().ok(),
            }
        }
    }
}

/// A probe's numbers with their defaults.
pub fn seconds(value: Option<i32>, default: u64) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
}

/// A hash of what a running container cannot change, its name and image: upstream's, so that a container goes on when
/// another kubelet takes over its node (`HashContainer`: FNV-1a over what `%#v` makes of the bytes of a JSON object).
pub fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let json = json!({"image": image, "name": container.name}).to_string();
    // Go writes these so that they do no harm in a page.
    let json = json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let bytes: Vec<String> = json.bytes().map(|byte| byte.to_string()).collect();
    let hash = format!("([]uint8)[{}]", bytes.join(" "))
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

/// Under what a container's pauses after crashes are kept: one whose image or resources are changed is tried at once.
pub fn crash_key(container: &Container) -> String {
    json!([container.name, container.image, container.resources]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What upstream's `HashContainer` says of them (`k8s.io/apimachinery` v0.37).
    #[test]
    fn a_container_has_the_hash_that_upstreams_kubelet_gives_it() {
        for (name, image, expected) in [
            ("c", "busybox:test", "26241fe6"),
            ("web", "nginx:1.27", "e220f96"),
            ("x", "a<b&c>\"\\é", "668a3777"),
        ] {
            let container =
                Container { name: name.into(), image: Some(image.into()), ..Container::default() };
            assert_eq!(hash(&container), expected, "{name}");
        }
    }
}
