//! Which devices a container gets. Pure; the plugin may be asked in between which it would rather give.

use std::collections::BTreeSet;

use super::state::State;
use crate::topology::Mask;

/// Why a container gets none, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    NoneHealthy(String),
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}"
    )]
    TooFew { resource: String, requested: usize, available: usize },
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub resource: &'a str,
    pub count: usize,
    /// Devices of the same pod that it can have, too.
    pub reusable: BTreeSet<String>,
    /// Where the container is to be.
    pub affinity: Option<Mask>,
}

/// What a plugin is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub available: BTreeSet<String>,
    pub required: BTreeSet<String>,
    pub count: usize,
}

/// A choice that is made as far as it can be without the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    taken: BTreeSet<String>,
    count: usize,
    /// What the plugin can be asked, if anything is left to choose.
    pub query: Option<Query>,
    /// What the plugin may prefer.
    preferable: BTreeSet<String>,
    /// What is taken without a preference, in this order.
    tiers: Vec<BTreeSet<String>>,
}

/// Chooses.
///
/// # Errors
/// [`ChooseError`].
pub fn choose(state: &State, request: Request<'_>) -> Result<Choice, ChooseError> {
    let Request { resource: name, count, reusable, affinity } = request;
    let resource = state.resources.get(name).ok_or_else(|| ChooseError::Unregistered(name.to_owned()))?;
    if resource.healthy().is_empty() {
        return Err(ChooseError::NoneHealthy(name.to_owned()));
    }
    let mut choice =
        Choice { taken: BTreeSet::new(), count, query: None, preferable: BTreeSet::new(), tiers: Vec::new() };
    choice.take(&reusable);
    if choice.missing() == 0 {
        return Ok(choice);
    }
    let available = state.available(name);
    if available.len() < choice.missing() {
        let (requested, available) = (choice.missing(), available.len());
        return Err(ChooseError::TooFew { resource: name.to_owned(), requested, available });
    }
    let [aligned, unaligned, anywhere] = by_affinity(state, name, &available, affinity);
    let among = if choice.missing() < aligned.len() {
        (choice.preferable, choice.tiers) = (aligned.clone(), vec![aligned.clone()]);
        aligned
    } else {
        // Whoever aligned the container counts on all of them.
        choice.take(&aligned);
        (choice.preferable, choice.tiers) = (available.clone(), vec![unaligned, anywhere]);
        available
    };
    if choice.missing() > 0 {
        let available = among.union(&choice.taken).cloned().collect();
        choice.query = Some(Query { available, required: choice.taken.clone(), count });
    }
    Ok(choice)
}

impl Choice {
    fn missing(&self) -> usize {
        self.count.saturating_sub(self.taken.len())
    }

    fn take(&mut self, from: &BTreeSet<String>) {
        for id in from {
            if self.missing() == 0 {
                return;
            }
            self.taken.insert(id.clone());
        }
    }

    /// The devices, with those that the plugin prefers first.
    pub fn finish(mut self, preferred: &BTreeSet<String>) -> BTreeSet<String> {
        let preferred = self.preferable.intersection(preferred).cloned().collect();
        self.take(&preferred);
        for tier in std::mem::take(&mut self.tiers) {
            self.take(&tier);
        }
        self.taken
    }
}

/// Those near to where the container is to be, those elsewhere, and those that are nowhere.
fn by_affinity(
    state: &State,
    name: &str,
    available: &BTreeSet<String>,
    affinity: Option<Mask>,
) -> [BTreeSet<String>; 3] {
    let resource = state.resources.get(name).filter(|resource| resource.is_aligned());
    let (Some(resource), Some(mask)) = (resource, affinity) else {
        return [BTreeSet::new(), BTreeSet::new(), available.clone()];
    };
    let mut lists = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    let [aligned, unaligned, anywhere] = &mut lists;
    for id in available {
        let list = match resource.devices.get(id) {
            Some(device) if device.nodes.iter().any(|node| mask.has(*node)) => &mut *aligned,
            Some(device) if !device.nodes.is_empty() => &mut *unaligned,
            _ => &mut *anywhere,
        };
        list.insert(id.clone());
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::state::{Device, Given, NOWHERE, Resource};

    /// Devices by name: `a0` is healthy and on node 0, `b-` is nowhere, `c1!` is ill.
    fn state(devices: &[&str], in_use: &[&str]) -> State {
        let mut state = State::default();
        let parse = |text: &&str| {
            let nodes = text.chars().filter_map(|c| c.to_digit(10)).map(i64::from).collect();
            let id = text.get(..1).unwrap_or_default().to_owned();
            (id, Device { healthy: !text.ends_with('!'), nodes })
        };
        let devices = devices.iter().map(parse).collect();
        state.resources.insert("x/a".to_owned(), Resource { devices, ..Resource::default() });
        let ids: Vec<String> = in_use.iter().map(|&id| id.to_owned()).collect();
        state.give(
            "other",
            "c",
            "x/a",
            Given { devices: [(NOWHERE, ids)].into_iter().collect(), ..Given::default() },
        );
        state
    }

    fn set(text: &str) -> BTreeSet<String> {
        text.chars().map(String::from).collect()
    }

    fn request(count: usize, reusable: &str, node: Option<i64>) -> Request<'static> {
        let affinity = node.map(|node| Mask::of([node]));
        Request { resource: "x/a", count, reusable: set(reusable), affinity }
    }

    #[test]
    fn devices_are_chosen_near_first_and_as_the_plugin_prefers() {
        let all = ["a0", "b0", "c1", "d1", "e-"];
        for (devices, in_use, request, preferred, asked, wanted) in [
            (&all[..], &[][..], request(2, "", None), "", Some("abcde"), "ab"),
            (&all, &[], request(2, "", None), "de", Some("abcde"), "de"),
            (&all, &[], request(2, "", None), "ez", Some("abcde"), "ae"),
            (&all, &["a"], request(2, "", None), "", Some("bcde"), "bc"),
            (&all, &[], request(1, "", Some(1)), "a", Some("cd"), "c"),
            (&all, &[], request(1, "", Some(1)), "d", Some("cd"), "d"),
            (&all, &[], request(2, "", Some(1)), "a", None, "cd"),
            (&all, &[], request(3, "", Some(1)), "b", Some("abcde"), "bcd"),
            (&all, &[], request(3, "", Some(1)), "", Some("abcde"), "acd"),
            (&all, &["a"], request(1, "a", None), "", None, "a"),
            (&all, &["a"], request(2, "a", None), "d", Some("abcde"), "ad"),
            (&["a-", "b-"], &[], request(1, "", Some(1)), "b", Some("ab"), "b"),
            (&["a-!", "b-"], &[], request(1, "", None), "", Some("b"), "b"),
        ] {
            let about = format!("{devices:?} {in_use:?} {request:?} {preferred}");
            let choice = choose(&state(devices, in_use), request).unwrap();
            assert_eq!(choice.query.as_ref().map(|query| query.available.clone()), asked.map(set), "{about}");
            assert_eq!(choice.finish(&set(preferred)), set(wanted), "{about}");
        }
    }

    #[test]
    fn whoever_wants_what_is_not_there_is_told_so() {
        let why = |devices: &[&str], in_use: &[&str], count| {
            choose(&state(devices, in_use), request(count, "", None)).unwrap_err().to_string()
        };
        assert_eq!(
            why(&["a-", "b-"], &["a"], 2),
            "requested number of devices unavailable for x/a. Requested: 2, Available: 1"
        );
        assert_eq!(
            why(&["a-!"], &[], 1),
            "no healthy devices present; cannot allocate unhealthy devices x/a"
        );
        let unknown = Request { resource: "x/b", ..request(1, "", None) };
        let error = choose(&state(&[], &[]), unknown).unwrap_err();
        assert_eq!(error.to_string(), "cannot allocate unregistered device x/b");
    }
}
