//! What the API server of one cluster consists of. Nothing of it is global: a process can hold many.

use std::sync::Arc;

use auth::authorizer::Authorizer;
use base::{SharedClock, SharedRandom, TaskGroup};
use parking_lot::RwLock;
use store::Store;

use crate::cache::feeder::Feeder;
use crate::cache::{Cache, Progress};
use crate::codec::{Codec, Transformer};
use crate::effects::Allocators;
use crate::flow::Flow;
use crate::handlers::token::TokenIssuer;
use crate::handlers::usage::Samples;
use crate::kubelet_client::KubeletClient;
use crate::leases::SharedLease;
use crate::metrics::Metrics;
use crate::pipeline::authenticate::Authenticator;
use crate::registry::{Registry, Resource, Storage, StoredAs};
use crate::status::{ApiError, Result};

/// How long a consistent read waits for the caches before it gives up.
const CATCH_UP: std::time::Duration = std::time::Duration::from_secs(10);

/// One cluster's API server.
pub struct Core {
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// The cluster's prefix in the store, with its trailing slash.
    pub prefix: String,
    /// The time.
    pub clock: SharedClock,
    /// For UIDs and generated names.
    pub random: SharedRandom,
    /// What is served now.
    pub registry: RwLock<Arc<Registry>>,
    /// Keeps the caches.
    pub feeder: Arc<Feeder>,
    /// Encrypts Secrets.
    pub transformer: Arc<dyn Transformer>,
    /// Who a request comes from.
    pub authenticator: Authenticator,
    /// What it may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Cluster IPs and node ports.
    pub allocators: Allocators,
    /// Reaches kubelets, for logs and exec.
    pub kubelets: KubeletClient,
    /// Makes service account tokens, and publishes how they are checked.
    pub tokens: Arc<dyn TokenIssuer>,
    /// The lease of events.
    pub event_leases: SharedLease,
    /// How many requests may be under way.
    pub flow: Flow,
    /// What nodes and pods used when somebody asked last.
    pub usage: Samples,
    /// What is counted.
    pub metrics: Metrics,
    /// Background work.
    pub tasks: TaskGroup,
    /// Settings that requests look at.
    pub settings: Settings,
}

/// What a request's handling depends on and an operator may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The range of cluster IPs.
    pub service_cidr: String,
    /// The range of node ports.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// The `iss` of service account tokens.
    pub issuer: String,
    /// How many requests that change something may be under way, and how many others.
    pub max_in_flight: (usize, usize),
    /// Which features are on.
    pub gates: kinds::gates::Gates,
}

impl Core {
    /// What is served now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.read().clone()
    }

    /// The codec of a stored resource.
    ///
    /// # Errors
    /// 405 for what is not stored.
    pub fn codec(&self, resource: &Resource) -> Result<(Codec, Arc<Cache>)> {
        let (storage, cache) = resource
            .stored
            .as_ref()
            .ok_or_else(|| ApiError::method_not_allowed(&resource.group, &resource.plural, "get"))?;
        Ok((self.codec_of(storage, &resource.kind, resource.namespaced, &resource.rules), cache.clone()))
    }

    /// The codec of a storage.
    pub fn codec_of(&self, storage: &Storage, kind: &str, namespaced: bool, rules: &kinds::Rules) -> Codec {
        Codec {
            storage: storage.clone(),
            kind: kind.to_owned(),
            namespaced,
            selectable: rules.selectable,
            completes: rules.completes,
            cluster_prefix: self.prefix.clone(),
            transformer: self.transformer.clone(),
        }
    }

    /// Waits until reads see everything that was committed before this call.
    ///
    /// # Errors
    /// When the store cannot confirm its revision, or the caches do not reach it in time.
    pub async fn consistent(&self) -> Result<()> {
        let revision = self.store.confirm().await?;
        let reached = self.progress().wait_for(revision);
        let late = |_| ApiError::future_version(revision, self.progress().revision());
        tokio::time::timeout(CATCH_UP, reached).await.map_err(late)
    }

    /// The revision that the caches have reached.
    pub fn progress(&self) -> &Arc<Progress> {
        self.feeder.progress()
    }

    /// Lets go of what a deleted object held.
    pub fn after_delete(&self, resource: &Resource, object: &schema::Object) {
        if resource.group.is_empty() && resource.plural == "services" {
            self.allocators.release(object);
        }
    }

    /// The cache of a built-in resource, by its group and plural name, for the server's own look-ups.
    pub fn cache(&self, group: &str, plural: &str) -> Option<Arc<Cache>> {
        let registry = self.registry.read();
        let resource = registry.preferred(group, plural)?;
        resource.stored.as_ref().map(|(_, cache)| cache.clone())
    }
}

/// Whether a resource is stored as protobuf.
pub fn is_protobuf(storage: &Storage) -> bool {
    storage.stored_as == StoredAs::Protobuf
}
