//! Admission: what the cluster's policy adds to an object, and refuses.

use kinds::Part;
use schema::Object;

use super::WriteContext;
use super::validate::Valid;
use crate::admission::{self, Attempt};
use crate::status::Result;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// A part of it is changed.
    Update(Part),
    /// It is removed.
    Delete,
}

impl Operation {
    /// As webhooks are told it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update(_) => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// An object that has all that the cluster's policy and its own kind add to it.
pub struct Admitted {
    object: Object,
    old: Option<Object>,
}

impl Admitted {
    pub(super) fn into_parts(self) -> (Object, Option<Object>) {
        (self.object, self.old)
    }

    /// The object, for reserving what it needs.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// What it was before.
    pub fn old(&self) -> Option<&Object> {
        self.old.as_ref()
    }

    /// The same with what was reserved for it.
    #[must_use]
    pub fn with_reserved(mut self, set: impl FnOnce(&mut Object)) -> Self {
        set(&mut self.object);
        self
    }
}

/// Writes down whose fields the client's are, then runs the half of the admission chain that changes the object, then
/// `prepare`, in which the kind sets what is not its clients' to set. What these two set is nobody's.
///
/// # Errors
/// What a plugin refuses with.
pub async fn admit(
    ctx: &WriteContext<'_>,
    operation: Operation,
    mut object: Object,
    old: Option<Object>,
    prepare: impl FnOnce(&mut Object),
) -> Result<Admitted> {
    manage_fields(ctx, operation, &mut object, old.as_ref());
    let attempt = Attempt::new(ctx, operation, old.as_ref());
    admission::catch_up(&attempt, &object).await?;
    admission::mutate(&attempt, &mut object)?;
    prepare(&mut object);
    if let Some(old) = &old {
        schema::managed::forget_new_times(old, &mut object);
    }
    Ok(Admitted { object, old })
}

/// A valid object that the cluster's policy allows.
pub struct Allowed {
    object: Object,
}

impl Allowed {
    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    pub(super) fn into_object(self) -> Object {
        self.object
    }
}

/// Runs the half of the admission chain that only looks. What is wrong in itself has been told before.
///
/// # Errors
/// What a plugin or a webhook refuses with.
pub async fn allow(
    ctx: &WriteContext<'_>,
    operation: Operation,
    valid: Valid,
    warnings: &mut Vec<String>,
) -> Result<Allowed> {
    let (object, old) = valid.into_parts();
    let attempt = Attempt::new(ctx, operation, old.as_ref());
    admission::validate(&attempt, &object, warnings)?;
    admission::webhook::validate(&attempt, Some(&object), warnings).await?;
    Ok(Allowed { object })
}

fn manage_fields(ctx: &WriteContext<'_>, operation: Operation, object: &mut Object, old: Option<&Object>) {
    let (part, subresource) = match operation {
        // Whom a pod is bound to and that an object goes are the server's to say.
        Operation::Delete | Operation::Update(Part::Other("binding")) => return,
        Operation::Create => (Part::Main, ""),
        Operation::Update(Part::Main) => (Part::Main, ""),
        Operation::Update(Part::Status) => (Part::Status, "status"),
        Operation::Update(part @ Part::Other(name)) => (part, name),
    };
    let resource = ctx.resource;
    let about = match resource.is_builtin() {
        true => kinds::about(&resource.group, &resource.kind, part),
        false => kinds::about_custom(resource.sub("status").is_some(), part),
    };
    let write = schema::managed::Write {
        manager: &ctx.options.field_manager,
        api_version: &resource.api_version(),
        subresource,
        about,
    };
    let time = super::prepare::whole_seconds(ctx.core.clock.now());
    schema::managed::update_managed_fields(old, object, &write, time);
}
