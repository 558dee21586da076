//! Role-based access control, as upstream's authorizer of the same name.
//!
//! Knows nothing of where roles come from: the API server feeds [`RbacAuthorizer`] from its watch cache.
//! Rules only ever allow; whoever no rule concerns gets no opinion.

mod aggregate;
mod covers;
mod policy;
mod reconcile;
mod rule;
mod snapshot;

pub use aggregate::aggregate;
pub use covers::{escalation_message, rules_cover};
pub use policy::{BootstrapPolicy, PolicyError, bootstrap_policy};
pub use reconcile::{Reconcile, cluster_role, cluster_role_binding, role, role_binding};
pub use snapshot::RbacSnapshot;

use parking_lot::RwLock;
use snapshot::Grant;

use crate::authorizer::{Attributes, Authorizer, Decision, Rule};
use crate::user::User;

/// Decides by roles and bindings.
#[derive(Debug, Default)]
pub struct RbacAuthorizer(RwLock<RbacSnapshot>);

impl RbacAuthorizer {
    /// Changes what is known.
    pub fn update(&self, change: impl FnOnce(&mut RbacSnapshot)) {
        change(&mut self.0.write());
    }

    /// Looks at what is known.
    pub fn read<T>(&self, look: impl FnOnce(&RbacSnapshot) -> T) -> T {
        look(&self.0.read())
    }

    /// What of `requested` the user does not hold in `namespace`; nothing when they may grant it all.
    pub fn missing(&self, user: &User, namespace: &str, requested: &[Rule]) -> Vec<Rule> {
        rules_cover(&self.rules_for(user, namespace), requested)
    }
}

impl Authorizer for RbacAuthorizer {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let snapshot = self.0.read();
        let mut broken: Vec<String> = Vec::new();
        for grant in snapshot.grants(asked.user, asked.namespace) {
            match grant {
                Grant::Rules { source, rules } => {
                    if rules.iter().any(|rule| rule.allows(asked)) {
                        return Decision::Allow(format!("RBAC: allowed by {source}"));
                    }
                }
                Grant::Broken(why) if broken.contains(&why) => {}
                Grant::Broken(why) => broken.push(why),
            }
        }
        Decision::NoOpinion(match broken.as_slice() {
            [] => String::new(),
            [why] => format!("RBAC: {why}"),
            _ => format!("RBAC: [{}]", broken.join(", ")),
        })
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let snapshot = self.0.read();
        let mut held = Vec::new();
        for grant in snapshot.grants(user, namespace) {
            if let Grant::Rules { rules, .. } = grant {
                held.extend_from_slice(rules);
            }
        }
        held
    }
}

#[cfg(test)]
mod tests;
