//! Which claims a pod and its containers mean. Pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodResourceClaim};

use super::PrepareError;
use crate::pods::spec::PodExt;

/// A claim that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub name: String,
    /// It was made for this pod alone, and must be the pod's own.
    pub is_own: bool,
}

/// The claim's object; `None` when none is needed.
fn name(pod: &Pod, claim: &PodResourceClaim) -> Result<Option<Name>, PrepareError> {
    if let Some(name) = &claim.resource_claim_name {
        return Ok(Some(Name { name: name.clone(), is_own: false }));
    }
    let (namespace, pod_name) = (pod.namespace().to_owned(), pod.name().to_owned());
    if claim.resource_claim_template_name.is_none() {
        return Err(PrepareError::Unsupported { namespace, pod: pod_name, claim: claim.name.clone() });
    }
    let status = pod.status.as_ref();
    let known = status.and_then(|status| status.resource_claim_statuses.as_ref()).into_iter().flatten();
    let found = known.into_iter().find(|known| known.name == claim.name);
    match found {
        Some(found) => Ok(found.resource_claim_name.clone().map(|name| Name { name, is_own: true })),
        None => Err(PrepareError::NotCreated { namespace, pod: pod_name }),
    }
}

fn claims(pod: &Pod) -> impl Iterator<Item = &PodResourceClaim> {
    pod.spec().into_iter().flat_map(|spec| spec.resource_claims.iter().flatten())
}

/// The object of a claim that a pod names so, if there is one by now.
pub fn of_claim(pod: &Pod, named: &str) -> Option<String> {
    let claim = claims(pod).find(|claim| claim.name == named)?;
    name(pod, claim).ok().flatten().map(|found| found.name)
}

/// The claim that the scheduler made for resources that drivers provide under a plain name.
fn of_extended(pod: &Pod) -> Option<Name> {
    let status = pod.status.as_ref()?.extended_resource_claim_status.as_ref()?;
    Some(Name { name: status.resource_claim_name.clone(), is_own: false })
}

/// All claims of a pod.
///
/// # Errors
/// When one is not there yet.
pub fn of_pod(pod: &Pod) -> Result<Vec<Name>, PrepareError> {
    let mut names = Vec::new();
    for claim in claims(pod) {
        names.extend(name(pod, claim)?);
    }
    names.extend(of_extended(pod));
    Ok(names)
}

/// Claims that a container asks for, and which request of each; an empty one is all of them.
///
/// # Errors
/// When one is not there yet.
pub fn of_container(pod: &Pod, container: &Container) -> Result<Vec<(String, String)>, PrepareError> {
    let mut wanted = Vec::new();
    let asked = container.resources.iter().flat_map(|resources| resources.claims.iter().flatten());
    for ask in asked {
        let Some(claim) = claims(pod).find(|claim| claim.name == ask.name) else { continue };
        if let Some(found) = name(pod, claim)? {
            wanted.push((found.name, ask.request.clone().unwrap_or_default()));
        }
    }
    let extended = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    if let Some(status) = extended {
        let of_this =
            status.request_mappings.iter().filter(|mapping| mapping.container_name == container.name);
        wanted.extend(
            of_this.map(|mapping| (status.resource_claim_name.clone(), mapping.request_name.clone())),
        );
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_named_by_the_pod_or_by_who_made_them() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {
                "resourceClaims": [
                    {"name": "given", "resourceClaimName": "shared"},
                    {"name": "made", "resourceClaimTemplateName": "t"},
                    {"name": "none", "resourceClaimTemplateName": "t"},
                ],
                "containers": [
                    {"name": "a", "resources": {"claims": [{"name": "given"}, {"name": "made", "request": "r"}]}},
                    {"name": "b"},
                ],
            },
        }))
        .unwrap();
        let error = of_pod(&pod).unwrap_err().to_string();
        assert_eq!(error, "pod \"n/p\": ResourceClaim not created yet");
        let status = json!({
            "resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made"}, {"name": "none"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "extended", "requestMappings": [
                {"containerName": "b", "resourceName": "x.com/gpu", "requestName": "container-0-request-0"}]},
        });
        pod.status = serde_json::from_value(status).unwrap();
        let of = |name: &str, is_own| Name { name: name.to_owned(), is_own };
        assert_eq!(of_pod(&pod).unwrap(), [of("shared", false), of("p-made", true), of("extended", false)]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let containers = pod.containers();
        assert_eq!(of_container(&pod, &containers[0]).unwrap(), [pair("shared", ""), pair("p-made", "r")]);
        let wanted = [pair("extended", "container-0-request-0")];
        assert_eq!(of_container(&pod, &containers[1]).unwrap(), wanted);
    }
}
