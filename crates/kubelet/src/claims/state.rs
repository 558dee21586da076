//! Which claims are used by whom, and what their drivers made of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A device of a claim, as its driver prepared it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    pub pool: String,
    pub name: String,
    pub share: Option<String>,
    /// The requests that it is for; all, if there are none.
    pub requests: Vec<String>,
    pub cdi: Vec<String>,
}

impl Device {
    fn is_for(&self, request: &str) -> bool {
        request.is_empty() || self.requests.is_empty() || self.requests.iter().any(|own| own == request)
    }
}

/// A claim that pods use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub pods: BTreeSet<String>,
    /// By driver: all that have a part in it, also those that prepare nothing.
    pub drivers: BTreeMap<String, Vec<Device>>,
    /// Whether all drivers have prepared it, since the kubelet began.
    pub is_prepared: bool,
}

/// What a container has by a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    pub claim: String,
    pub namespace: String,
    /// Drivers and their devices.
    pub devices: Vec<(String, Device)>,
}

impl Claim {
    fn for_request<'c>(&'c self, request: &'c str) -> impl Iterator<Item = (&'c String, &'c Device)> {
        let all = self.drivers.iter().flat_map(|(driver, list)| list.iter().map(move |one| (driver, one)));
        all.filter(move |(_, device)| device.is_for(request))
    }

    /// Names of the CDI devices for a request, or for all of them.
    pub fn cdi(&self, request: &str) -> Vec<String> {
        self.for_request(request).flat_map(|(_, device)| device.cdi.clone()).collect()
    }

    /// What there is for a request.
    pub fn prepared(&self, request: &str) -> Prepared {
        let devices = self.for_request(request).map(|(driver, one)| (driver.clone(), one.clone())).collect();
        Prepared { claim: self.name.clone(), namespace: self.namespace.clone(), devices }
    }
}

/// By namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State(BTreeMap<(String, String), Claim>);

impl State {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Claim> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn get_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Claim> {
        self.0.get_mut(&(namespace.to_owned(), name.to_owned()))
    }

    /// Adds a claim.
    pub fn insert(&mut self, claim: Claim) {
        self.0.insert((claim.namespace.clone(), claim.name.clone()), claim);
    }

    pub fn remove(&mut self, namespace: &str, name: &str) {
        self.0.remove(&(namespace.to_owned(), name.to_owned()));
    }

    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.0.values()
    }

    /// Whether a pod uses any claim.
    pub fn is_used_by(&self, uid: &str) -> bool {
        self.claims().any(|claim| claim.pods.contains(uid))
    }

    /// Namespaces and names of the claims that a pod uses.
    pub fn used_by(&self, uid: &str) -> BTreeSet<(String, String)> {
        let used = self.0.iter().filter(|(_, claim)| claim.pods.contains(uid));
        used.map(|(key, _)| key.clone()).collect()
    }

    /// Pods that have any of these devices of a driver.
    pub fn users(&self, driver: &str, devices: &BTreeSet<(String, String)>) -> BTreeSet<String> {
        let is_meant = |device: &Device| devices.contains(&(device.pool.clone(), device.name.clone()));
        let has = |claim: &&Claim| claim.drivers.get(driver).is_some_and(|list| list.iter().any(is_meant));
        self.claims().filter(has).flat_map(|claim| claim.pods.clone()).collect()
    }

    /// Pods that use claims.
    pub fn pods(&self) -> impl Iterator<Item = String> {
        let all: BTreeSet<String> = self.claims().flat_map(|claim| claim.pods.clone()).collect();
        all.into_iter()
    }

    /// How many claims pods use, by driver, and of all of them under `<any>`.
    pub fn in_use(&self) -> BTreeMap<String, usize> {
        let used = || self.claims().filter(|claim| !claim.pods.is_empty());
        let mut counts = BTreeMap::from([("<any>".to_owned(), used().count())]);
        for driver in used().flat_map(|claim| claim.drivers.keys()) {
            *counts.entry(driver.clone()).or_default() += 1;
        }
        counts
    }

    /// A pod does not use claims any more that others use, too. Those that only it used.
    pub fn leave(&mut self, uid: &str) -> Vec<Claim> {
        let mut last = Vec::new();
        for claim in self.0.values_mut().filter(|claim| claim.pods.contains(uid)) {
            if claim.pods.len() > 1 {
                claim.pods.remove(uid);
            } else {
                last.push(claim.clone());
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_left_by_the_last_of_its_pods() {
        let device = |requests: &[&str], cdi: &str| Device {
            requests: requests.iter().map(|&name| name.to_owned()).collect(),
            cdi: vec![cdi.to_owned()],
            ..Device::default()
        };
        let claim = Claim {
            name: "c".to_owned(),
            namespace: "n".to_owned(),
            pods: ["a".to_owned(), "b".to_owned()].into(),
            drivers: [("d".to_owned(), vec![device(&[], "all"), device(&["r"], "one")])].into(),
            ..Claim::default()
        };
        assert_eq!(claim.cdi(""), ["all", "one"]);
        assert_eq!(claim.cdi("r"), ["all", "one"]);
        assert_eq!(claim.cdi("s"), ["all"]);
        let mut state = State::default();
        state.insert(claim);
        assert_eq!(state.pods().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(state.in_use(), [("<any>".to_owned(), 1), ("d".to_owned(), 1)].into());
        assert!(state.leave("a").is_empty() && !state.is_used_by("a"));
        assert_eq!(state.leave("b").len(), 1);
        assert!(state.is_used_by("b"), "until its driver has taken it back");
    }
}
