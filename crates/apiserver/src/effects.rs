//! What a Service needs from a common stock: cluster IPs and node ports.
//!
//! An effect is reserved before the commit and let go of when the commit fails. The stock is not stored: it is read
//! off the Services in the watch cache, and what is reserved but not yet visible there is remembered here. Across
//! API servers the loser of a race is found by the repair in [`Allocators::rebuild`], as upstream's repair loop does.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use base::SharedRandom;
use kinds::field::{Errors, Path};
use parking_lot::Mutex;
use schema::{Object, Value};

use crate::status::{ApiError, Result};
use crate::write::WriteContext;
use crate::write::admit::Admitted;

/// The stocks of one cluster.
#[derive(Clone)]
pub struct Allocators {
    state: Arc<Mutex<Taken>>,
    network: (u32, u32),
    ports: RangeInclusive<u16>,
    random: SharedRandom,
}

#[derive(Default)]
struct Taken {
    ips: BTreeSet<u32>,
    ports: BTreeSet<u16>,
}

/// What one write has reserved; let go of when dropped without [`Reservation::keep`].
pub struct Reservation {
    state: Arc<Mutex<Taken>>,
    ips: Vec<u32>,
    ports: Vec<u16>,
    /// What is let go of when the write succeeds: what the old object had and the new one does not.
    surplus: (Vec<u32>, Vec<u16>),
}

impl Reservation {
    /// The commit succeeded: what was reserved is used, what is no longer used is free.
    pub fn keep(mut self) {
        self.ips.clear();
        self.ports.clear();
        let mut taken = self.state.lock();
        for ip in self.surplus.0.drain(..) {
            taken.ips.remove(&ip);
        }
        for port in self.surplus.1.drain(..) {
            taken.ports.remove(&port);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.state.lock();
        for ip in &self.ips {
            taken.ips.remove(ip);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

impl Allocators {
    /// Stocks of an IPv4 network such as `10.96.0.0/16`, and of ports.
    ///
    /// # Errors
    /// A sentence about a network that is none.
    pub fn new(
        cidr: &str,
        ports: RangeInclusive<u16>,
        random: SharedRandom,
    ) -> std::result::Result<Self, String> {
        let bad = || format!("the service network {cidr:?} is not an IPv4 network such as 10.96.0.0/16");
        let (address, bits) = cidr.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(bad)?;
        let size = 1u32 << (32 - bits);
        let base = u32::from(address) & !(size - 1);
        Ok(Self { state: Arc::default(), network: (base, size), ports, random })
    }

    /// The first address of the network, which the `kubernetes` Service has.
    pub fn first_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network.0 + 1)
    }

    /// Reads what is taken off the Services that there are.
    pub fn rebuild<'s>(&self, services: impl Iterator<Item = &'s Object>) {
        let mut taken = self.state.lock();
        for service in services {
            taken.ips.extend(ips_of(service));
            taken.ports.extend(ports_of(service));
        }
    }

    /// Lets go of what a deleted Service had.
    pub fn release(&self, service: &Object) {
        let mut taken = self.state.lock();
        for ip in ips_of(service) {
            taken.ips.remove(&ip);
        }
        for port in ports_of(service) {
            taken.ports.remove(&port);
        }
    }

    /// Reserves what a Service asks for, and writes it into the object.
    ///
    /// # Errors
    /// 422 when an address or port is taken or out of range.
    pub fn reserve(&self, ctx: &WriteContext<'_>, admitted: Admitted) -> Result<(Admitted, Reservation)> {
        let mut reservation = Reservation {
            state: self.state.clone(),
            ips: Vec::new(),
            ports: Vec::new(),
            surplus: Default::default(),
        };
        let resource = ctx.resource;
        if resource.plural != "services"
            || !resource.group.is_empty()
            || !ctx.authorized.info().subresource.is_empty()
        {
            return Ok((admitted, reservation));
        }
        let old = admitted.old().cloned();
        let mut object = admitted.object().clone();
        let mut errors = Errors::new();
        self.plan_ip(&mut object, old.as_ref(), &mut reservation, &mut errors);
        self.plan_ports(&mut object, old.as_ref(), &mut reservation, &mut errors);
        self.plan_check(&mut object, old.as_ref(), &mut reservation, &mut errors);
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Service", object.name(), &errors));
        }
        if let Some(old) = &old {
            let (ips, ports): (BTreeSet<_>, BTreeSet<_>) =
                (ips_of(&object).collect(), ports_of(&object).collect());
            reservation.surplus.0 = ips_of(old).filter(|ip| !ips.contains(ip)).collect();
            reservation.surplus.1 = ports_of(old).filter(|port| !ports.contains(port)).collect();
        }
        Ok((admitted.with_reserved(|target| *target = object), reservation))
    }

    fn plan_ip(
        &self,
        service: &mut Object,
        old: Option<&Object>,
        reserved: &mut Reservation,
        errors: &mut Errors,
    ) {
        let Some(spec) = service.struct_mut("spec") else { return };
        if spec.str_at(&["type"]) == Some("ExternalName") {
            return;
        }
        let path = Path::new("spec").child("clusterIPs").index(0);
        let asked = spec.str_at(&["clusterIP"]).unwrap_or_default().to_owned();
        let had = old.and_then(|old| old.str_at(&["spec", "clusterIP"])).unwrap_or_default();
        let ip = match asked.as_str() {
            "None" => "None".to_owned(),
            "" if !had.is_empty() => had.to_owned(),
            "" => match self.take_free_ip(reserved) {
                Some(ip) => ip.to_string(),
                None => {
                    errors.invalid(&path, "", "failed to allocate a serviceIP: range is full");
                    return;
                }
            },
            asked if asked == had => asked.to_owned(),
            asked => {
                if let Err(why) = self.take_ip(asked, reserved) {
                    errors.invalid(&path, asked, format!("failed to allocate IP {asked}: {why}"));
                    return;
                }
                asked.to_owned()
            }
        };
        spec.set("clusterIP", ip.as_str());
        spec.set("clusterIPs", Value::List(vec![Value::Str(ip)]));
        if spec.list_at(&["ipFamilies"]).is_none_or(<[Value]>::is_empty) {
            spec.set("ipFamilies", Value::List(vec![Value::Str("IPv4".to_owned())]));
        }
        if spec.get("ipFamilyPolicy").is_none() {
            spec.set("ipFamilyPolicy", "SingleStack");
        }
    }

    fn take_free_ip(&self, reserved: &mut Reservation) -> Option<Ipv4Addr> {
        let (base, size) = self.network;
        let mut taken = self.state.lock();
        // The lower part of the range is kept for addresses that are asked for by name, as in KEP-3070.
        let offset = (size / 16).clamp(16, 256).min(size / 2);
        let start = offset + self.random.below(u64::from(size - offset - 1)) as u32;
        let candidates = (start..size - 1).chain(offset..start).chain(1..offset);
        let ip = candidates.map(|at| base + at).find(|ip| !taken.ips.contains(ip))?;
        taken.ips.insert(ip);
        reserved.ips.push(ip);
        Some(Ipv4Addr::from(ip))
    }

    fn take_ip(&self, asked: &str, reserved: &mut Reservation) -> std::result::Result<(), &'static str> {
        let ip: Ipv4Addr = asked.parse().map_err(|_| "the provided IP is not an IPv4 address")?;
        let ip = u32::from(ip);
        let (base, size) = self.network;
        if ip <= base || ip - base >= size - 1 {
            return Err("the provided IP is not in the valid range");
        }
        if !self.state.lock().ips.insert(ip) {
            return Err("provided IP is already allocated");
        }
        reserved.ips.push(ip);
        Ok(())
    }

    fn plan_ports(
        &self,
        service: &mut Object,
        old: Option<&Object>,
        reserved: &mut Reservation,
        errors: &mut Errors,
    ) {
        let had: BTreeSet<u16> = old.map(|old| ports_of(old).collect()).unwrap_or_default();
        let Some(spec) = service.struct_mut("spec") else { return };
        let wants = matches!(spec.str_at(&["type"]), Some("NodePort" | "LoadBalancer"));
        let Some(ports) = spec.get_mut("ports").and_then(Value::as_list_mut) else { return };
        if let Some(old) = old.filter(|_| wants) {
            keep_ports(ports, old);
        }
        for (index, port) in ports.iter_mut().filter_map(Value::as_struct_mut).enumerate() {
            let asked = port.int_at(&["nodePort"]).unwrap_or_default();
            if !wants || (asked != 0 && u16::try_from(asked).is_ok_and(|asked| had.contains(&asked))) {
                continue;
            }
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            match self.take_port(asked, reserved) {
                Ok(taken) => {
                    port.set("nodePort", Value::Int(i64::from(taken)));
                }
                Err(why) => errors.invalid(&path, asked, why),
            }
        }
    }

    /// The port at which a load balancer asks whether a node has endpoints.
    fn plan_check(
        &self,
        service: &mut Object,
        old: Option<&Object>,
        reserved: &mut Reservation,
        errors: &mut Errors,
    ) {
        let had = old.and_then(|old| old.int_at(&["spec", CHECK])).unwrap_or_default();
        let Some(spec) = service.struct_mut("spec") else { return };
        let asked = spec.int_at(&[CHECK]).unwrap_or_default();
        let wants = spec.str_at(&["type"]) == Some("LoadBalancer")
            && spec.str_at(&["externalTrafficPolicy"]) == Some("Local");
        if !wants || (asked != 0 && asked == had) {
            return;
        }
        if asked == 0 && had != 0 {
            spec.set(CHECK, Value::Int(had));
            return;
        }
        match self.take_port(asked, reserved) {
            Ok(taken) => {
                spec.set(CHECK, Value::Int(i64::from(taken)));
            }
            Err(why) => errors.invalid(&Path::new("spec").child(CHECK), asked, why),
        }
    }

    fn take_port(&self, asked: i64, reserved: &mut Reservation) -> std::result::Result<u16, String> {
        let mut taken = self.state.lock();
        let port = if asked == 0 {
            let count = u64::from(self.ports.end() - self.ports.start()) + 1;
            let start = self.random.below(count) as u16;
            let all = self.ports.clone().cycle_from(start);
            all.into_iter().find(|port| !taken.ports.contains(port)).ok_or("no node port is free")?
        } else {
            let port =
                u16::try_from(asked).ok().filter(|port| self.ports.contains(port)).ok_or_else(|| {
                    format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        self.ports.start(),
                        self.ports.end()
                    )
                })?;
            if taken.ports.contains(&port) {
                return Err("provided port is already allocated".to_owned());
            }
            port
        };
        taken.ports.insert(port);
        reserved.ports.push(port);
        Ok(port)
    }
}

/// Ports that a client left out are those that it has under the same names.
fn keep_ports(ports: &mut [Value], old: &Object) {
    let number = |port: &Object| port.int_at(&["nodePort"]).unwrap_or_default();
    let asked: BTreeSet<i64> = ports.iter().filter_map(Value::as_struct).map(number).collect();
    for port in ports.iter_mut().filter_map(Value::as_struct_mut).filter(|port| number(port) == 0) {
        let mut had = old.list_at(&["spec", "ports"]).unwrap_or_default().iter().filter_map(Value::as_struct);
        let same = had.find(|had| had.str_at(&["name"]) == port.str_at(&["name"]));
        if let Some(kept) = same.map(number).filter(|kept| *kept != 0 && !asked.contains(kept)) {
            port.set("nodePort", Value::Int(kept));
        }
    }
}

/// The field of the port at which a load balancer asks.
const CHECK: &str = "healthCheckNodePort";

trait CycleFrom {
    fn cycle_from(self, offset: u16) -> Vec<u16>;
}

impl CycleFrom for RangeInclusive<u16> {
    fn cycle_from(self, offset: u16) -> Vec<u16> {
        let middle = self.start().saturating_add(offset);
        (middle..=*self.end()).chain(*self.start()..middle).collect()
    }
}

fn ips_of(service: &Object) -> impl Iterator<Item = u32> + use<> {
    let ip = service.str_at(&["spec", "clusterIP"]).and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    ip.map(u32::from).into_iter()
}

fn ports_of(service: &Object) -> impl Iterator<Item = u16> + use<> {
    let ports = service.list_at(&["spec", "ports"]).unwrap_or_default();
    let ports = ports.iter().filter_map(|port| port.child("nodePort")?.as_int());
    let ports: Vec<u16> = ports
        .chain(service.int_at(&["spec", CHECK]))
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|&port| port != 0)
        .collect();
    ports.into_iter()
}
