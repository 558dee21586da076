//! What every namespace has: the service account `default`, and the cluster's certificate authority in
//! `kube-root-ca.crt`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::context::Context;
use crate::view::key;

const ROOT_CA: &str = "kube-root-ca.crt";

/// Gives one namespace what it must have.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, namespace: String) -> Result<Option<Duration>, kube::Error> {
    let Some(found) = context.informers.namespaces.get(&namespace) else { return Ok(None) };
    if found.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    if context.informers.service_accounts.get(&key(&namespace, "default")).is_none() {
        let accounts: Api<ServiceAccount> =
            Api::namespaced(context.clients.service_accounts.clone(), &namespace);
        let account = ServiceAccount { metadata: named("default"), ..ServiceAccount::default() };
        taken_is_fine(accounts.create(&PostParams::default(), &account).await)?;
    }
    let maps: Api<ConfigMap> = Api::namespaced(context.clients.root_ca.clone(), &namespace);
    let data = BTreeMap::from([("ca.crt".to_owned(), context.settings.root_ca.clone())]);
    match context.informers.root_cas.get(&key(&namespace, ROOT_CA)) {
        None => {
            let mut metadata = named(ROOT_CA);
            metadata.annotations = Some(BTreeMap::from([(
                "kubernetes.io/description".to_owned(),
                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.".to_owned(),
            )]));
            let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
            taken_is_fine(maps.create(&PostParams::default(), &map).await)?;
        }
        Some(map) if map.data.as_ref() != Some(&data) => {
            let mut map = (*map).clone();
            map.data = Some(data);
            maps.replace(ROOT_CA, &PostParams::default(), &map).await?;
        }
        Some(_) => {}
    }
    Ok(None)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn taken_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status))
            if status.code == 409 || (status.code == 403 && status.message.contains("being terminated")) =>
        {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}
