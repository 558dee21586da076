//! Gives devices to claims, and takes them back.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::Device;

use super::amounts::{self, Amounts};
use super::pools::Pool;
use super::rules::keeps_away;
use super::search::{At, Given, Place, Search, Stop};
use super::{DeviceId, Refusal, request};

impl Search<'_> {
    fn id(&self, place: Place) -> Option<DeviceId> {
        let (pool, _, device) = self.device(place)?;
        Some((pool.driver.clone(), pool.name.clone(), device.name.clone()))
    }

    pub(super) fn is_free(&self, at: At, place: Place) -> bool {
        let Some(id) = self.id(place) else { return false };
        let taken = self.taken.get(&id);
        match self.alternative(at).is_some_and(|is| is.is_admin) {
            true => !taken.is_some_and(|claims| claims.contains(&at.claim)),
            false => !self.world.allocated.devices.contains(&id) && taken.is_none_or(BTreeSet::is_empty),
        }
    }

    /// What a request takes of a device's capacity; `None` when that is more than there is.
    pub(super) fn consumed(&self, at: At, place: Place) -> Option<Amounts> {
        let ((_, _, device), id) = (self.device(place)?, self.id(place)?);
        let before =
            [self.world.allocated.capacity.get(&id), self.shares.get(&id).map(|(_, amounts)| amounts)];
        amounts::consumed(self.alternative(at)?.capacity, device, &before)
    }

    /// Gives a device that is selected, if it is free and all rules hold.
    pub(super) fn give(&mut self, at: At, place: Place, must: bool) -> Result<bool, Stop> {
        let (Some((pool, _, device)), Some(id)) = (self.device(place), self.id(place)) else {
            return Ok(false);
        };
        let Some(consumed) = self.consumed(at, place) else { return Ok(false) };
        let Some(wanted) = self.alternative(at) else { return Ok(false) };
        let rules = self.world.rules;
        if !self.is_free(at, place)
            || keeps_away(rules, (&pool.driver, &pool.name), device, wanted.tolerations)
        {
            return Ok(false);
        }
        let is_shared = device.allow_multiple_allocations == Some(true);
        let in_parts = self.world.allocated.capacity.contains_key(&id)
            || self.shares.get(&id).is_some_and(|(count, _)| *count > 0);
        let used_counters =
            device.consumes_counters.as_ref().is_some_and(|all| !all.is_empty()) && !(is_shared && in_parts);
        if used_counters && !self.count_up(place.pool, pool, device) {
            return Ok(false);
        }
        if !self.joins(at, pool, device) {
            if used_counters {
                amounts::consume(self.used.entry(place.pool).or_default(), device, -1);
            }
            if must {
                let (key, name) = self.names_of(at);
                return Err(Refusal::Error(format!(
                    "claim {key}, request {name}: cannot add device {}/{}/{} because a claim constraint would not be \
                     satisfied",
                    id.0, id.1, id.2
                ))
                .into());
            }
            return Ok(false);
        }
        let share = is_shared.then_some(consumed);
        match &share {
            None => {
                self.taken.entry(id).or_default().insert(at.claim);
            }
            Some(share) => {
                let (count, amounts) = self.shares.entry(id).or_default();
                *count += 1;
                share.iter().for_each(|(name, amount)| amounts::add(amounts, name, amount));
            }
        }
        let given = Given { request: at.request, alternative: at.alternative, place, share, used_counters };
        if let Some(claim) = self.claims.get_mut(at.claim) {
            claim.given.push(given);
        }
        Ok(true)
    }

    fn names_of(&self, at: At) -> (String, String) {
        let key = self.claims.get(at.claim).map(|claim| request::key(claim.object)).unwrap_or_default();
        let sub = self.alternative(at).and_then(|is| is.sub);
        let name = sub.or(self.request(at.claim, at.request).map(|request| request.name));
        (key, name.unwrap_or_default().to_owned())
    }

    /// Counts what a device uses of its pool's counters, if there is as much.
    fn count_up(&mut self, number: usize, pool: &Pool, device: &Device) -> bool {
        let allocated = self.world.allocated;
        let left = self.left.entry(number).or_insert_with(|| amounts::left(pool, allocated));
        let used = self.used.entry(number).or_default();
        amounts::consume(used, device, 1);
        let suffices = amounts::suffices(left, used);
        if !suffices {
            amounts::consume(used, device, -1);
        }
        suffices
    }

    /// Whether a device goes with the others of its claim; if so it is one of them.
    fn joins(&mut self, at: At, pool: &Pool, device: &Device) -> bool {
        let Some(claim) = self.claims.get_mut(at.claim) else { return false };
        let Some(request) = claim.requests.get(at.request) else { return false };
        let names = (request.name, request.alternatives.get(at.alternative).and_then(|is| is.sub));
        let mut count = 0;
        for rule in &mut claim.rules {
            if !rule.add(names, &pool.driver, device) {
                break;
            }
            count += 1;
        }
        if count == claim.rules.len() {
            return true;
        }
        // The one that did not hold has not counted it.
        claim.rules.iter_mut().take(count).for_each(|rule| rule.remove(names));
        false
    }

    /// Takes back the device that a claim got last.
    pub(super) fn take_back(&mut self, at: At) {
        let Some(claim) = self.claims.get_mut(at.claim) else { return };
        let (Some(given), Some(request)) = (claim.given.pop(), claim.requests.get(at.request)) else {
            return;
        };
        let names = (request.name, request.alternatives.get(at.alternative).and_then(|is| is.sub));
        claim.rules.iter_mut().for_each(|rule| rule.remove(names));
        let (Some((_, _, device)), Some(id)) = (self.device(given.place), self.id(given.place)) else {
            return;
        };
        if given.used_counters {
            amounts::consume(self.used.entry(given.place.pool).or_default(), device, -1);
        }
        match given.share {
            None => {
                if let Some(claims) = self.taken.get_mut(&id) {
                    claims.remove(&at.claim);
                }
            }
            Some(share) => {
                if let Some((count, amounts)) = self.shares.get_mut(&id) {
                    *count -= 1;
                    amounts::subtract(amounts, &share);
                }
            }
        }
    }
}
