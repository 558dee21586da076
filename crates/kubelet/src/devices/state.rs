//! Which devices there are and who has which. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cri::device_plugin as wire;
use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec::{PodExt, is_sidecar};

/// How long a resource is still told after its plugin went: it may only be restarting.
pub const GRACE: Duration = Duration::from_secs(300);
/// Stands for a device that belongs to no NUMA node.
pub const NOWHERE: i64 = -1;

/// A device as its plugin told it last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    pub healthy: bool,
    /// The NUMA nodes that it is near to.
    pub nodes: BTreeSet<i64>,
}

/// What a plugin wants to be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Before a container starts.
    pub pre_start: bool,
    /// Which devices it would rather give.
    pub preferred: bool,
}

/// A resource that a plugin provides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource {
    pub devices: BTreeMap<String, Device>,
    pub options: Options,
    /// Since when its plugin is gone, in monotonic time.
    pub stopped: Option<Duration>,
}

impl Resource {
    /// The devices that can be given.
    pub fn healthy(&self) -> BTreeSet<String> {
        self.devices.iter().filter(|(_, device)| device.healthy).map(|(id, _)| id.clone()).collect()
    }

    /// Whether any device says where it is.
    pub fn is_aligned(&self) -> bool {
        self.devices.values().any(|device| !device.nodes.is_empty())
    }
}

/// What one container has of one resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// Ids by NUMA node, [`NOWHERE`] among them.
    pub devices: BTreeMap<i64, Vec<String>>,
    /// What the plugin said they need.
    pub response: wire::ContainerAllocateResponse,
}

impl Given {
    /// All ids.
    pub fn ids(&self) -> BTreeSet<String> {
        self.devices.values().flatten().cloned().collect()
    }
}

/// What the containers of one pod have, by container and resource.
pub type Shares = BTreeMap<String, BTreeMap<String, Given>>;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub resources: BTreeMap<String, Resource>,
    /// By pod's uid.
    pub given: BTreeMap<String, Shares>,
    /// Resources that were told once and are not there any more.
    pub gone: BTreeSet<String>,
}

impl State {
    /// Whether plugins provide this resource, or did to somebody who still has it.
    pub fn manages(&self, resource: &str) -> bool {
        self.resources.contains_key(resource) || self.shares().any(|(_, _, name, _)| name == resource)
    }

    /// Pods, containers, resources and what they have of them.
    pub fn shares(&self) -> impl Iterator<Item = (&str, &str, &str, &Given)> {
        self.given.iter().flat_map(|(uid, shares)| {
            shares.iter().flat_map(move |(container, given)| {
                given
                    .iter()
                    .map(move |(name, given)| (uid.as_str(), container.as_str(), name.as_str(), given))
            })
        })
    }

    /// A plugin has come, for the first time or again. Its devices are told next.
    pub fn begin(&mut self, name: &str, options: Options) {
        let resource = self.resources.entry(name.to_owned()).or_default();
        (resource.options, resource.stopped) = (options, None);
        self.gone.remove(name);
    }

    /// A plugin tells its devices. The pods that have one whose health is another now.
    pub fn update(&mut self, name: &str, devices: Vec<wire::Device>) -> BTreeSet<String> {
        let told = devices.into_iter().map(|device| {
            let nodes = device.topology.into_iter().flat_map(|topology| topology.nodes);
            let healthy = device.health == "Healthy";
            (device.id, Device { healthy, nodes: nodes.map(|node| node.id).collect() })
        });
        let resource = self.resources.entry(name.to_owned()).or_default();
        let before = std::mem::replace(&mut resource.devices, told.collect());
        self.changed(name, &before)
    }

    /// A plugin has gone: none of its devices can be given until it comes back.
    pub fn stop(&mut self, name: &str, now: Duration) -> BTreeSet<String> {
        let Some(resource) = self.resources.get_mut(name) else { return BTreeSet::new() };
        let before = resource.devices.clone();
        resource.devices.values_mut().for_each(|device| device.healthy = false);
        resource.stopped = Some(now);
        self.changed(name, &before)
    }

    fn changed(&self, name: &str, before: &BTreeMap<String, Device>) -> BTreeSet<String> {
        let health = |devices: &BTreeMap<String, Device>, id: &str| devices.get(id).map(|d| d.healthy);
        let Some(now) = self.resources.get(name).map(|resource| &resource.devices) else {
            return BTreeSet::new();
        };
        let has_changed = |given: &Given| given.ids().iter().any(|id| health(now, id) != health(before, id));
        let shares = self.shares().filter(|(_, _, resource, given)| *resource == name && has_changed(given));
        shares.map(|(uid, ..)| uid.to_owned()).collect()
    }

    /// Forgets resources whose plugin has been gone for too long; whether there were any.
    pub fn expire(&mut self, now: Duration) -> bool {
        let is_over =
            |resource: &Resource| resource.stopped.is_some_and(|since| now.saturating_sub(since) > GRACE);
        let over: Vec<String> =
            self.resources.iter().filter(|(_, r)| is_over(r)).map(|(name, _)| name.clone()).collect();
        self.resources.retain(|name, _| !over.contains(name));
        let any = !over.is_empty();
        self.gone.extend(over);
        any
    }

    /// What the node has of each resource, and what of it can be given.
    pub fn amounts(&self) -> BTreeMap<String, (i64, i64)> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let told = self.resources.iter().map(|(name, resource)| {
            (name.clone(), (number(resource.devices.len()), number(resource.healthy().len())))
        });
        // 0 rather than nothing: what is not told is taken for a resource of the whole cluster.
        self.gone.iter().map(|name| (name.clone(), (0, 0))).chain(told).collect()
    }

    /// What is given to anybody of a resource.
    pub fn in_use(&self, resource: &str) -> BTreeSet<String> {
        self.shares()
            .filter(|(_, _, name, _)| *name == resource)
            .flat_map(|(.., given)| given.ids())
            .collect()
    }

    /// What can be given to whoever comes.
    pub fn available(&self, name: &str) -> BTreeSet<String> {
        let in_use = self.in_use(name);
        let healthy = self.resources.get(name).map(Resource::healthy).unwrap_or_default();
        healthy.difference(&in_use).cloned().collect()
    }

    /// What a container of a pod has of a resource.
    pub fn share(&self, uid: &str, container: &str, resource: &str) -> Option<&Given> {
        self.given.get(uid)?.get(container)?.get(resource)
    }

    /// What a container can have although it is given already: what init containers before it had, and nobody who
    /// runs beside it.
    pub fn reusable(&self, pod: &Pod, container: &str, resource: &str) -> BTreeSet<String> {
        let mut free = BTreeSet::new();
        let before = |name: &str| name != container;
        let ids = |name: &str| self.share(pod.uid(), name, resource).map(Given::ids).unwrap_or_default();
        for init in pod.init_containers().iter().take_while(|init| before(&init.name)) {
            match is_sidecar(init) {
                true => free = free.difference(&ids(&init.name)).cloned().collect(),
                false => free.extend(ids(&init.name)),
            }
        }
        if !pod.init_containers().iter().any(|init| init.name == container) {
            for main in pod.containers().iter().filter(|main| before(&main.name)) {
                free = free.difference(&ids(&main.name)).cloned().collect();
            }
        }
        free
    }

    /// Notes what a container got.
    pub fn give(&mut self, uid: &str, container: &str, resource: &str, given: Given) {
        let shares = self.given.entry(uid.to_owned()).or_default();
        shares.entry(container.to_owned()).or_default().insert(resource.to_owned(), given);
    }

    /// Ids by the NUMA nodes that they are near to.
    pub fn placed(&self, name: &str, ids: &BTreeSet<String>) -> BTreeMap<i64, Vec<String>> {
        let mut placed: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        let devices = self.resources.get(name).map(|resource| &resource.devices);
        for id in ids {
            let nodes = devices.and_then(|devices| devices.get(id)).map(|device| device.nodes.clone());
            let nodes = nodes.filter(|nodes| !nodes.is_empty()).unwrap_or_else(|| BTreeSet::from([NOWHERE]));
            nodes.into_iter().for_each(|node| placed.entry(node).or_default().push(id.clone()));
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(list: &[(&str, bool)]) -> Vec<wire::Device> {
        let device = |(id, healthy): &(&str, bool)| wire::Device {
            id: (*id).to_owned(),
            health: if *healthy { "Healthy" } else { "Unhealthy" }.to_owned(),
            topology: None,
        };
        list.iter().map(device).collect()
    }

    fn given(ids: &[&str]) -> Given {
        let ids = ids.iter().map(|&id| id.to_owned()).collect();
        Given { devices: BTreeMap::from([(NOWHERE, ids)]), ..Given::default() }
    }

    #[test]
    fn a_plugin_that_goes_takes_its_devices_along_and_after_a_while_its_resource() {
        let mut state = State::default();
        state.begin("x/a", Options::default());
        assert_eq!(state.amounts()["x/a"], (0, 0));
        state.update("x/a", told(&[("1", true), ("2", true), ("3", false)]));
        assert_eq!(state.amounts()["x/a"], (3, 2));
        state.give("u", "c", "x/a", given(&["1"]));
        assert_eq!(state.available("x/a"), BTreeSet::from(["2".to_owned()]));
        let at = Duration::from_secs(100);
        assert_eq!(state.stop("x/a", at), BTreeSet::from(["u".to_owned()]));
        assert_eq!(state.amounts()["x/a"], (3, 0));
        assert!(!state.expire(at + GRACE));
        assert!(state.expire(at + GRACE + Duration::from_secs(1)));
        assert_eq!(state.amounts()["x/a"], (0, 0));
        assert!(state.manages("x/a"), "somebody still has one");
        state.begin("x/a", Options::default());
        state.update("x/a", told(&[("1", true)]));
        assert_eq!((state.amounts()["x/a"], state.available("x/a").len()), ((1, 1), 0));
    }

    #[test]
    fn only_pods_whose_devices_change_their_health_are_told() {
        let mut state = State::default();
        state.update("x/a", told(&[("1", true), ("2", true)]));
        state.give("u", "c", "x/a", given(&["1"]));
        state.give("v", "c", "x/a", given(&["2"]));
        assert_eq!(state.update("x/a", told(&[("1", true), ("2", false)])), BTreeSet::from(["v".to_owned()]));
        assert_eq!(
            state.update("x/a", told(&[("2", false)])),
            BTreeSet::from(["u".to_owned()]),
            "it is gone"
        );
        assert!(state.update("x/a", told(&[("2", false), ("3", true)])).is_empty());
    }

    #[test]
    fn init_containers_hand_on_and_sidecars_keep() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
            "containers": [{"name": "a"}, {"name": "b"}]}}))
        .unwrap();
        let mut state = State::default();
        for (container, ids) in [("i", vec!["1", "2", "3"]), ("s", vec!["1"]), ("a", vec!["2"])] {
            state.give("u", container, "x/a", given(&ids));
        }
        let free = |container: &str| Vec::from_iter(state.reusable(&pod, container, "x/a"));
        assert_eq!(free("i"), [""; 0]);
        assert_eq!(free("s"), ["1", "2", "3"]);
        assert_eq!(free("j"), ["2", "3"]);
        assert_eq!(free("b"), ["3"]);
    }
}
