//! Where a volume can be made for a claim (upstream's `checkVolumeProvisions`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySelectorTerm;
use kinds::selector;
use schema::quantity::Quantity;

use super::{BIND_CONFLICT, NOT_ENOUGH_SPACE, Storage, matching};
use crate::view::{CapacityView, ClaimView, ClassView};

type Labels = BTreeMap<String, String>;

/// Nobody makes volumes of such a class.
const NOBODY: &str = "kubernetes.io/no-provisioner";

/// Who makes volumes for a claim.
#[derive(Debug)]
pub(super) struct Source {
    class: Option<Arc<ClassView>>,
    size: Quantity,
    /// How much there is left, if that is told.
    left: Option<Vec<Arc<CapacityView>>>,
}

impl Source {
    pub fn new(claim: &ClaimView, storage: &impl Storage) -> Self {
        let class = storage.class(claim.class());
        let makes = |class: &Arc<ClassView>| !class.provisioner.is_empty() && class.provisioner != NOBODY;
        let class = class.filter(makes);
        let driver = class.as_ref().and_then(|class| storage.driver(&class.provisioner));
        let tells = driver.is_some_and(|driver| driver.spec.storage_capacity == Some(true));
        let asks = claim.spec.resources.requests.contains_key("storage");
        let left = (tells && asks).then(|| storage.capacities(claim.class()));
        Self { class, size: matching::requested(claim), left }
    }

    /// Whether it can be made for a node with such labels.
    pub fn on(&self, labels: &Labels) -> Result<(), &'static str> {
        let class = self.class.as_ref().ok_or(BIND_CONFLICT)?;
        if !allows(&class.allowed_topologies, labels) {
            return Err(BIND_CONFLICT);
        }
        let is_enough = |left: &Arc<CapacityView>| {
            let limit = left.limit().and_then(|limit| limit.parse::<Quantity>().ok());
            limit.is_some_and(|limit| limit >= self.size)
                && selector::matches(left.node_topology.as_ref(), labels)
        };
        match &self.left {
            Some(left) if !left.iter().any(is_enough) => Err(NOT_ENOUGH_SPACE),
            _ => Ok(()),
        }
    }
}

/// Whether one of some topologies has a node with such labels (`MatchTopologySelectorTerms`).
fn allows(terms: &[TopologySelectorTerm], labels: &Labels) -> bool {
    let matches = |term: &TopologySelectorTerm| {
        let all = term.match_label_expressions.as_deref().unwrap_or_default();
        let holds = |key, values: &[String]| labels.get(key).is_some_and(|value| values.contains(value));
        !all.is_empty() && all.iter().all(|one| holds(&one.key, &one.values))
    };
    terms.is_empty() || terms.iter().any(matches)
}
