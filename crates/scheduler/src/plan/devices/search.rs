//! Tries devices for requests, one after the other, and goes back where that leads nowhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    AllocationResult, Device, DeviceSelector, ResourceClaim, ResourceSlice,
};

use super::amounts::Amounts;
use super::pools::{Counters, Pool, devices, reaches};
use super::request::{self, Alternative, Mode, Request};
use super::rules::Rule;
use super::{DeviceId, MOST_RESULTS, MOST_STEPS, Refusal, Site, World, result};

/// Where a device stands: pool, slice, and place in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub pool: usize,
    pub slice: usize,
    pub device: usize,
}

/// Which device is looked for: claim, request, alternative, and the how-manieth of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct At {
    pub claim: usize,
    pub request: usize,
    pub alternative: usize,
    pub device: usize,
}

/// A device that a claim would get.
#[derive(Debug)]
pub struct Given {
    pub request: usize,
    pub alternative: usize,
    pub place: Place,
    /// What it takes of a device that several may have.
    pub share: Option<Amounts>,
    pub used_counters: bool,
}

/// Why a search goes no further.
pub enum Stop {
    /// More devices than one claim can have.
    TooMany,
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// One claim.
pub struct Claim<'s> {
    pub object: &'s ResourceClaim,
    pub requests: Vec<Request<'s>>,
    pub given: Vec<Given>,
    pub rules: Vec<Rule<'s>>,
}

/// A search on one node.
pub struct Search<'s> {
    pub world: &'s World<'s>,
    pub node: Site<'s>,
    pools: &'s [Pool],
    pub claims: Vec<Claim<'s>>,
    /// Every device of requests for all of them, by claim, request and alternative.
    all: HashMap<(usize, usize, usize), Vec<Place>>,
    selected: HashMap<(usize, usize, usize, Place), bool>,
    /// Devices in the making, with the claims that get them.
    pub taken: HashMap<DeviceId, BTreeSet<usize>>,
    pub shares: HashMap<DeviceId, (usize, Amounts)>,
    pub used: BTreeMap<usize, Counters>,
    pub left: BTreeMap<usize, Counters>,
    steps: usize,
}

impl<'s> Search<'s> {
    /// Reads the claims.
    ///
    /// # Errors
    /// [`Refusal`] when one asks for what there cannot be.
    pub fn new(
        world: &'s World<'s>,
        node: Site<'s>,
        pools: &'s [Pool],
        claims: &'s [Arc<ResourceClaim>],
    ) -> Result<Self, Refusal> {
        let mut search = Self {
            world,
            node,
            pools,
            claims: Vec::new(),
            all: HashMap::new(),
            selected: HashMap::new(),
            taken: HashMap::new(),
            shares: HashMap::new(),
            used: BTreeMap::new(),
            left: BTreeMap::new(),
            steps: 0,
        };
        for object in claims {
            let read = request::requests(object).iter().map(|of| request::read(world, object, of));
            let requests = read.collect::<Result<Vec<_>, _>>()?;
            let constraints = object.spec.as_ref().and_then(|spec| spec.devices.as_ref());
            let constraints =
                constraints.and_then(|devices| devices.constraints.as_deref()).unwrap_or_default();
            let rules = constraints.iter().enumerate().map(|(number, of)| {
                Rule::new(of).ok_or_else(|| {
                    let why = "empty constraint (unsupported constraint type?)";
                    Refusal::Error(format!("claim {}, constraint #{number}: {why}", request::key(object)))
                })
            });
            let rules = rules.collect::<Result<Vec<_>, _>>()?;
            search.claims.push(Claim { object, requests, given: Vec::new(), rules });
            search.count(search.claims.len() - 1)?;
        }
        Ok(search)
    }

    /// Finds all devices of requests for all, and refuses a claim that asks for too many.
    fn count(&mut self, claim: usize) -> Result<(), Refusal> {
        let mut least = 0usize;
        for request in 0..self.claims.get(claim).map_or(0, |claim| claim.requests.len()) {
            let alternatives = self.request(claim, request).map_or(0, |request| request.alternatives.len());
            let mut smallest = usize::MAX;
            for alternative in 0..alternatives {
                let at = At { claim, request, alternative, device: 0 };
                if self.alternative(at).is_some_and(|is| is.mode == Mode::All) {
                    let found = self.every(at)?;
                    self.all.insert((claim, request, alternative), found);
                }
                smallest = smallest.min(self.number(at));
            }
            least = least.saturating_add(smallest);
        }
        if least > MOST_RESULTS {
            let key = self.claims.get(claim).map(|claim| request::key(claim.object)).unwrap_or_default();
            let why =
                format!("number of requested devices {least} exceeds the claim limit of {MOST_RESULTS}");
            return Err(Refusal::Error(format!("claim {key}: {why}")));
        }
        Ok(())
    }

    /// Every device that a request for all of them means.
    fn every(&mut self, at: At) -> Result<Vec<Place>, Refusal> {
        let mut found = Vec::new();
        for (number, pool) in self.pools.iter().enumerate() {
            let state = match (pool.is_incomplete, pool.is_invalid) {
                (true, _) => "being updated",
                (_, true) => "invalid",
                _ => "",
            };
            if !state.is_empty() {
                let (claim, request) = (self.claims.get(at.claim), self.request(at.claim, at.request));
                let key = claim.map(|claim| request::key(claim.object)).unwrap_or_default();
                let sub = self.alternative(at).and_then(|is| is.sub);
                let name = sub.or(request.map(|request| request.name)).unwrap_or_default();
                return Err(Refusal::Error(format!(
                    "claim {key}, request {name}: asks for all devices, but resource pool {}/{} is currently {state}",
                    pool.driver, pool.name
                )));
            }
            for place in places(pool, Place { pool: number, ..Place::default() }) {
                if self.is_selected(at, place)? && self.consumed(at, place).is_some() {
                    found.push(place);
                }
            }
        }
        Ok(found)
    }

    pub fn request(&self, claim: usize, request: usize) -> Option<&Request<'s>> {
        self.claims.get(claim)?.requests.get(request)
    }

    pub fn alternative(&self, at: At) -> Option<&Alternative<'s>> {
        self.request(at.claim, at.request)?.alternatives.get(at.alternative)
    }

    /// How many devices an alternative takes.
    pub fn number(&self, at: At) -> usize {
        match self.alternative(at).map(|is| is.mode) {
            Some(Mode::Exact(count)) => count,
            Some(Mode::All) => self.all.get(&(at.claim, at.request, at.alternative)).map_or(0, Vec::len),
            None => 0,
        }
    }

    /// The device at a place, with its slice.
    pub fn device(&self, place: Place) -> Option<(&'s Pool, &'s ResourceSlice, &'s Device)> {
        let pool = self.pools.get(place.pool)?;
        let slice = pool.slices.get(place.slice)?;
        Some((pool, slice, devices(slice).get(place.device)?))
    }

    fn is_selected(&mut self, at: At, place: Place) -> Result<bool, Refusal> {
        let key = (at.claim, at.request, at.alternative, place);
        if let Some(known) = self.selected.get(&key) {
            return Ok(*known);
        }
        let is = self.selects(at, place)?;
        self.selected.insert(key, is);
        Ok(is)
    }

    fn selects(&self, at: At, place: Place) -> Result<bool, Refusal> {
        let (Some((pool, slice, device)), Some(wanted)) = (self.device(place), self.alternative(at)) else {
            return Ok(false);
        };
        let class = wanted.class.metadata.name.as_deref().unwrap_or_default();
        let of_class = wanted.class.spec.as_ref();
        let of_class = of_class.and_then(|spec| spec.selectors.as_deref()).unwrap_or_default();
        let claim = || self.claims.get(at.claim).map(|claim| request::key(claim.object)).unwrap_or_default();
        if !self.agree(of_class, pool, device, || format!("class {class}"))?
            || !self.agree(wanted.selectors, pool, device, || format!("claim {}", claim()))?
        {
            return Ok(false);
        }
        Ok(slice.spec.per_device_node_selection != Some(true) || reaches(device, self.node))
    }

    fn agree(
        &self,
        selectors: &[DeviceSelector],
        pool: &Pool,
        device: &Device,
        whose: impl Fn() -> String,
    ) -> Result<bool, Refusal> {
        for (number, selector) in selectors.iter().enumerate() {
            let Some(cel) = &selector.cel else { continue };
            let found = self.world.expressions.get(&cel.expression).map_err(|why| {
                Refusal::Error(format!("{}: selector #{number}: CEL compile error: {why}", whose()))
            })?;
            let is = found.matches(&pool.driver, device).map_err(|why| {
                let (driver, name, device) = (&pool.driver, &pool.name, &device.name);
                let at = format!("selector #{number} on device {driver}/{name}/{device}");
                Refusal::Error(format!("{}: {at}: CEL runtime error: {why}", whose()))
            })?;
            if !is {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether everything was found.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn run(&mut self) -> Result<bool, Refusal> {
        match self.one(At::default(), false, Place::default()) {
            Ok(found) => Ok(found),
            Err(Stop::TooMany) => Ok(false),
            Err(Stop::Refused(refusal)) => Err(refusal),
        }
    }

    /// Looks for one device and then for all further ones. Within one request only from `from` on, since the order of
    /// its devices does not matter.
    fn one(&mut self, at: At, is_chosen: bool, from: Place) -> Result<bool, Stop> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            let why = format!("node {}: timed out trying to allocate devices", self.node.name);
            return Err(Refusal::Error(why).into());
        }
        let Some(claim) = self.claims.get(at.claim) else { return Ok(true) };
        let Some(request) = claim.requests.get(at.request) else {
            let next = At { claim: at.claim + 1, ..At::default() };
            // Another alternative in an earlier claim may leave room.
            return match self.one(next, false, Place::default()) {
                Err(Stop::TooMany) => Ok(false),
                other => other,
            };
        };
        let given = claim.given.len();
        let alternatives = request.alternatives.len();
        let has_several = request.alternatives.first().is_some_and(|first| first.sub.is_some());
        if has_several && !is_chosen {
            return self.first_of(at, alternatives);
        }
        let number = self.number(at);
        let is_all = self.alternative(at).is_some_and(|is| is.mode == Mode::All);
        if is_all && number == 0 {
            return Ok(false);
        }
        if at.device >= number {
            let next = At { claim: at.claim, request: at.request + 1, ..At::default() };
            return self.one(next, false, Place::default());
        }
        if given + number - at.device > MOST_RESULTS {
            return Err(Stop::TooMany);
        }
        if is_all {
            let all = self.all.get(&(at.claim, at.request, at.alternative));
            let Some(place) = all.and_then(|all| all.get(at.device)).copied() else { return Ok(false) };
            return match self.give(at, place, true)? {
                true => self.go_on(at, is_chosen, Place::default()),
                false => Ok(false),
            };
        }
        for pool in from.pool..self.pools.len() {
            let first = if pool == from.pool { from } else { Place { pool, ..Place::default() } };
            let Some(found) = self.pools.get(pool).filter(|pool| !pool.is_incomplete && !pool.is_invalid)
            else {
                continue;
            };
            for place in places(found, first) {
                if self.is_free(at, place) && self.is_selected(at, place)? && self.give(at, place, false)? {
                    let after = Place { device: place.device + 1, ..place };
                    if self.go_on(at, is_chosen, after)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// With a device given: looks for the next, and takes the device back if that fails.
    fn go_on(&mut self, at: At, is_chosen: bool, from: Place) -> Result<bool, Stop> {
        let done = self.one(At { device: at.device + 1, ..at }, is_chosen, from);
        if !matches!(done, Ok(true)) {
            self.take_back(at);
        }
        done
    }

    /// The first alternative that leads to the end.
    fn first_of(&mut self, at: At, alternatives: usize) -> Result<bool, Stop> {
        let mut all_too_many = true;
        for alternative in 0..alternatives {
            match self.one(At { alternative, ..at }, true, Place::default()) {
                Err(Stop::TooMany) => {}
                Err(other) => return Err(other),
                Ok(true) => return Ok(true),
                Ok(false) => all_too_many = false,
            }
        }
        if all_too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    /// What was found, by claim.
    pub fn results(&self) -> Vec<AllocationResult> {
        self.claims.iter().map(|claim| result::of(self, claim)).collect()
    }
}

/// The places of a pool from one on.
fn places(pool: &Pool, from: Place) -> Vec<Place> {
    let slices = pool.slices.iter().enumerate().skip(from.slice);
    let of = |(slice, object): (usize, &Arc<ResourceSlice>)| {
        let first = if slice == from.slice { from.device } else { 0 };
        (first..devices(object).len()).map(move |device| Place { pool: from.pool, slice, device })
    };
    slices.flat_map(of).collect()
}
