//! What claims ask for, one request or alternative after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    DeviceClass, DeviceRequest, DeviceSelector, DeviceToleration, ResourceClaim,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{Refusal, World};

/// What makes the number of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// So many.
    Exact(usize),
    /// All that are selected.
    All,
}

/// A request, or one of its alternatives.
#[derive(Debug)]
pub struct Alternative<'c> {
    /// The alternative's name, when the request has several.
    pub sub: Option<&'c str>,
    pub class: Arc<DeviceClass>,
    pub selectors: &'c [DeviceSelector],
    pub mode: Mode,
    pub is_admin: bool,
    pub tolerations: &'c [DeviceToleration],
    pub capacity: Option<&'c BTreeMap<String, Text>>,
}

/// A request.
#[derive(Debug)]
pub struct Request<'c> {
    pub name: &'c str,
    /// The first is the best; one, unless it has alternatives.
    pub alternatives: Vec<Alternative<'c>>,
}

impl Alternative<'_> {
    /// As it is called in results.
    pub fn full_name(&self, request: &str) -> String {
        match self.sub {
            Some(sub) => format!("{request}/{sub}"),
            None => request.to_owned(),
        }
    }
}

/// `NAMESPACE/NAME` of a claim.
pub fn key(claim: &ResourceClaim) -> String {
    let meta = &claim.metadata;
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    format!("{}/{}", text(&meta.namespace), text(&meta.name))
}

/// The requests of a claim.
pub fn requests(claim: &ResourceClaim) -> &[DeviceRequest] {
    let devices = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
    devices.and_then(|devices| devices.requests.as_deref()).unwrap_or_default()
}

/// Reads one.
///
/// # Errors
/// [`Refusal`] when it is of a kind that is not known here, or its class is missing.
pub fn read<'c>(
    world: &World<'_>,
    claim: &ResourceClaim,
    of: &'c DeviceRequest,
) -> Result<Request<'c>, Refusal> {
    let reader = Reader { world, claim: key(claim) };
    let mut alternatives = Vec::new();
    for sub in of.first_available.iter().flatten() {
        let asked = Asked {
            name: &sub.name,
            class: &sub.device_class_name,
            selectors: sub.selectors.as_deref().unwrap_or_default(),
            mode: sub.allocation_mode.as_deref().unwrap_or_default(),
            count: sub.count.unwrap_or_default(),
        };
        let (class, mode) = reader.known(&asked)?;
        alternatives.push(Alternative {
            sub: Some(&sub.name),
            class,
            selectors: asked.selectors,
            mode,
            is_admin: false,
            tolerations: sub.tolerations.as_deref().unwrap_or_default(),
            capacity: sub.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
        });
    }
    if let Some(exactly) = of.exactly.as_ref().filter(|_| alternatives.is_empty()) {
        let asked = Asked {
            name: &of.name,
            class: &exactly.device_class_name,
            selectors: exactly.selectors.as_deref().unwrap_or_default(),
            mode: exactly.allocation_mode.as_deref().unwrap_or_default(),
            count: exactly.count.unwrap_or_default(),
        };
        let (class, mode) = reader.known(&asked)?;
        alternatives.push(Alternative {
            sub: None,
            class,
            selectors: asked.selectors,
            mode,
            is_admin: exactly.admin_access == Some(true),
            tolerations: exactly.tolerations.as_deref().unwrap_or_default(),
            capacity: exactly.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
        });
    }
    if alternatives.is_empty() {
        return Err(reader.refused(&of.name, "missing device class name (unsupported request type?)"));
    }
    Ok(Request { name: &of.name, alternatives })
}

struct Reader<'a> {
    world: &'a World<'a>,
    claim: String,
}

struct Asked<'c> {
    name: &'c str,
    class: &'c str,
    selectors: &'c [DeviceSelector],
    mode: &'c str,
    count: i64,
}

impl Reader<'_> {
    fn refused(&self, request: &str, why: &str) -> Refusal {
        Refusal::Error(format!("claim {}, request {request}: {why}", self.claim))
    }

    fn known(&self, asked: &Asked<'_>) -> Result<(Arc<DeviceClass>, Mode), Refusal> {
        if let Some(at) = asked.selectors.iter().position(|selector| selector.cel.is_none()) {
            let why = format!("selector #{at}: CEL expression empty (unsupported selector type?)");
            return Err(Refusal::Error(format!("claim {}, request {}, {why}", self.claim, asked.name)));
        }
        if asked.class.is_empty() {
            return Err(self.refused(asked.name, "missing device class name (unsupported request type?)"));
        }
        let class = self.world.classes.get(asked.class).cloned().ok_or_else(|| {
            let class = asked.class;
            let why = format!(
                "could not retrieve device class {class}: deviceclass.resource.k8s.io \"{class}\" not found"
            );
            self.refused(asked.name, &why)
        })?;
        let mode = match asked.mode {
            "ExactCount" => match usize::try_from(asked.count) {
                Ok(count) => Mode::Exact(count),
                Err(_) => {
                    let why = format!("exact count {} is too large", asked.count);
                    return Err(self.refused(asked.name, &why));
                }
            },
            "All" => Mode::All,
            other => return Err(self.refused(asked.name, &format!("unsupported count mode {other}"))),
        };
        Ok((class, mode))
    }
}
