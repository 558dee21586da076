//! What drivers have published of the node's devices: of a driver that went away it is taken back, so that nobody
//! counts on it.

use std::collections::BTreeSet;
use std::time::Duration;

use base::Backoff;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::Claims;

/// How long a driver may be away: it may only be restarting.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Takes back what a driver published, unless it comes back.
pub async fn wipe_later(claims: &Claims, driver: &str) {
    tokio::time::sleep(PATIENCE).await;
    if !claims.drivers.lock().has(driver) {
        wipe(claims, driver).await;
    }
}

/// Takes back what drivers published that were there before this kubelet began, and do not come back.
pub async fn wipe_lost(claims: &Claims) {
    tokio::time::sleep(PATIENCE).await;
    let api: Api<ResourceSlice> = Api::all(claims.client.clone());
    let list = ListParams::default().fields(&format!("spec.nodeName={}", claims.node));
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let drivers: BTreeSet<String> = loop {
        match api.list(&list).await {
            Ok(slices) => break slices.items.into_iter().map(|slice| slice.spec.driver).collect(),
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => tracing::debug!(%error, "resource slices cannot be listed yet"),
        }
        tokio::time::sleep(backoff.next_pause()).await;
    };
    for driver in drivers {
        if !claims.drivers.lock().has(&driver) {
            wipe(claims, &driver).await;
        }
    }
}

/// Takes back what a driver has published, for as many attempts as it takes.
async fn wipe(claims: &Claims, driver: &str) {
    let api: Api<ResourceSlice> = Api::all(claims.client.clone());
    let list = ListParams::default().fields(&format!("spec.nodeName={},spec.driver={driver}", claims.node));
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        match api.delete_collection(&DeleteParams::default(), &list).await {
            Ok(_) => return tracing::info!(driver, "what a driver published that went away is taken back"),
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => tracing::debug!(driver, %error, "resource slices are not taken back yet"),
        }
        tokio::time::sleep(backoff.next_pause()).await;
        if claims.drivers.lock().has(driver) {
            return;
        }
    }
}
