//! AppArmor profiles on a machine that cannot confine by them (`pkg/security/apparmor`).

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};

use super::{Refusal, refuse};
use crate::pods::spec::{PodExt, as_container};

/// Before each container's name, in annotations older than the fields.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

fn confines(profile: &AppArmorProfile) -> bool {
    profile.type_ != "Unconfined"
}

fn of_container(container: &Container) -> Option<&AppArmorProfile> {
    container.security_context.as_ref()?.app_armor_profile.as_ref()
}

/// Refuses a pod that is to be confined where nothing can confine it.
///
/// # Errors
/// [`Refusal`].
pub fn check(pod: &Pod, enabled: bool) -> Result<(), Refusal> {
    let of_pod = pod.security().and_then(|security| security.app_armor_profile.as_ref());
    let ephemeral: Vec<Container> = pod.ephemeral_containers().iter().map(as_container).collect();
    let all = || pod.init_containers().iter().chain(pod.containers()).chain(&ephemeral);
    let annotated = pod.metadata.annotations.iter().flatten().find(|(key, _)| key.starts_with(ANNOTATION));
    let wanted = of_pod.is_some_and(confines)
        || all().any(|container| of_container(container).is_some_and(confines))
        || annotated.is_some_and(|(_, profile)| profile != "unconfined");
    let refusal = |why: &str| Err(refuse("AppArmor", format!("Cannot enforce AppArmor: {why}")));
    if !wanted {
        return Ok(());
    }
    if !enabled {
        return refusal("AppArmor is not enabled on the host");
    }
    let nameless = |profile: &AppArmorProfile| {
        profile.type_ == "Localhost" && profile.localhost_profile.as_deref().unwrap_or("").trim().is_empty()
    };
    if all().any(|container| of_container(container).or(of_pod).is_some_and(nameless)) {
        return refusal("invalid empty AppArmor profile name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(of_pod: serde_json::Value, of_container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "securityContext": {"appArmorProfile": of_pod},
            "containers": [{"name": "c", "securityContext": {"appArmorProfile": of_container}}],
        }}))
        .unwrap()
    }

    #[test]
    fn whoever_is_to_be_confined_needs_a_kernel_that_can() {
        let none = json!(null);
        let confined = pod(none.clone(), json!({"type": "RuntimeDefault"}));
        let refusal = check(&confined, false).unwrap_err();
        assert_eq!(refusal.reason, "AppArmor");
        assert_eq!(refusal.message, "Cannot enforce AppArmor: AppArmor is not enabled on the host");
        assert_eq!(check(&confined, true), Ok(()));
        assert_eq!(check(&pod(none.clone(), json!({"type": "Unconfined"})), false), Ok(()));
        assert_eq!(check(&pod(none.clone(), none.clone()), false), Ok(()));
        assert!(
            check(&pod(json!({"type": "Localhost", "localhostProfile": " "}), none.clone()), true).is_err()
        );
        let mut annotated = pod(none.clone(), none);
        annotated.metadata.annotations =
            Some([(format!("{ANNOTATION}c"), "runtime/default".to_owned())].into());
        assert!(check(&annotated, false).is_err());
    }
}
