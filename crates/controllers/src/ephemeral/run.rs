//! Does what the plan says for one pod.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim as Claim;
use kube::Api;
use kube::api::PostParams;

use super::plan::{Action, foreign, is_of, plan};
use crate::context::Context;
use crate::view::{PodView, key};

/// Somebody may delete the claim that is in the way.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks at one pod.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, name: String) -> Result<Option<Duration>, kube::Error> {
    let Some(pod) = context.informers.pods.get(&name) else { return Ok(None) };
    let namespace = &pod.metadata.namespace;
    let claims = &context.informers.storage.claims;
    let actions = plan(&pod, |name| claims.get(&key(namespace, name)));
    let api: Api<Claim> = Api::namespaced(context.clients.ephemeral_volumes.clone(), namespace);
    let mut again = None;
    for action in actions {
        let volume = match action {
            Action::Foreign { volume, message } => Some((volume, message)),
            Action::Create(claim) => match api.create(&PostParams::default(), &claim).await {
                Ok(_) => None,
                // The informer is behind: whose it is decides.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let name = claim.metadata.name.unwrap_or_default();
                    let found = api.get(&name).await?;
                    (!is_of(&found, &pod)).then(|| (name.clone(), foreign(&pod, &name)))
                }
                // The pod's namespace is going, or the pod already is gone.
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                Err(error) => {
                    tell(context, &pod, &claim.metadata.name.unwrap_or_default(), &error.to_string());
                    return Err(error);
                }
            },
        };
        if let Some((volume, message)) = volume {
            tell(context, &pod, &volume, &message);
            again = Some(AGAIN);
        }
    }
    Ok(again)
}

fn tell(context: &Context, pod: &PodView, volume: &str, why: &str) {
    let recorder = context.recorder.named("ephemeral_volume");
    recorder.warning(pod.reference(), "FailedBinding", format!("ephemeral volume {volume}: {why}"));
}
