//! Pods that ask for nodes by name, as those of daemon sets do.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::NodeSelectorTerm;

use crate::view::PodView;

/// What such a pod asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<'p> {
    /// Nothing by name: any node may do.
    Any,
    /// No others than these.
    Only(BTreeSet<&'p str>),
    /// Names that exclude one another.
    Nothing,
}

/// The only nodes that a pod's affinity lets it go to, if it names them (`NodeAffinity`'s `PreFilter`).
pub(super) fn named(pod: &PodView) -> Named<'_> {
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.map(|required| required.node_selector_terms.as_slice()).unwrap_or_default();
    if terms.is_empty() {
        return Named::Any;
    }
    let mut all = BTreeSet::new();
    for term in terms {
        let Some(names) = of_term(term) else { return Named::Any };
        all.extend(names);
    }
    if all.is_empty() { Named::Nothing } else { Named::Only(all) }
}

fn of_term(term: &NodeSelectorTerm) -> Option<BTreeSet<&str>> {
    let fields = term.match_fields.iter().flatten();
    let by_name = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    let sets = by_name.map(|field| field.values.iter().flatten().map(String::as_str).collect());
    sets.reduce(|one: BTreeSet<&str>, other| &one & &other)
}
