//! What the API server serves.

use std::time::Duration;

/// Between two questions, while the API server does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Until it is certain that the API server does not serve a resource, as an older one may. Never returns where it does.
pub async fn without(client: &kube::Client, group_version: &str, plural: &str) {
    loop {
        match client.list_api_group_resources(group_version).await {
            Ok(all) if all.resources.iter().any(|resource| resource.name == plural) => {
                return std::future::pending().await;
            }
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, group_version, "what is served is not known yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
