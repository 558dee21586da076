//! What whoever asks may do.

use std::sync::Arc;

use auth::authorizer::{Attributes, Decision};
use auth::user::User;
use http::HeaderMap;

use super::authenticate::Authenticated;
use super::request::RequestInfo;
use crate::core::Core;
use crate::status::{ApiError, Result, qualified};

/// Proof that a request is allowed. Only [`authorize`] makes one.
pub struct Authorized {
    user: Arc<User>,
    info: RequestInfo,
}

impl Authorized {
    /// Who asks.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// What for.
    pub fn info(&self) -> &RequestInfo {
        &self.info
    }

    /// The same permission for one object of a collection that may be deleted.
    pub fn for_object(&self, name: &str, namespace: &str) -> Self {
        let info =
            RequestInfo { name: name.to_owned(), namespace: namespace.to_owned(), ..self.info.clone() };
        Self { user: self.user.clone(), info }
    }

    /// The same permission for a subresource of an object in the same namespace, which is what the request stands for.
    pub fn for_subresource(&self, resource: &str, name: &str, subresource: &str) -> Self {
        let info = RequestInfo {
            resource: resource.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            ..self.info.clone()
        };
        Self { user: self.user.clone(), info }
    }
}

/// The attributes of a request.
pub fn attributes<'a>(user: &'a User, info: &'a RequestInfo) -> Attributes<'a> {
    Attributes {
        user,
        verb: info.verb,
        api_group: &info.group,
        api_version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        name: &info.name,
        namespace: &info.namespace,
        path: &info.path,
        is_resource: info.is_resource,
    }
}

/// Decides whether the request may go on, in the name that it is made in.
///
/// # Errors
/// 403 with upstream's sentence.
pub fn authorize(core: &Core, authenticated: Authenticated, headers: &HeaderMap) -> Result<Authorized> {
    let authenticated = impersonate(core, authenticated, headers)?;
    let (user, info) = authenticated.into_parts();
    match core.authorizer.authorize(&attributes(&user, &info)) {
        Decision::Allow(_) => Ok(Authorized { user, info }),
        Decision::Deny(why) | Decision::NoOpinion(why) => Err(refused(&user, &info, &why)),
    }
}

/// 403 in upstream's words.
pub fn refused(user: &User, info: &RequestInfo, why: &str) -> ApiError {
    let mut text = if info.is_resource {
        let resource = qualified_path(info);
        let group = &info.group;
        let mut text =
            format!("User {:?} cannot {} resource {resource:?} in API group {group:?}", user.name, info.verb);
        if info.namespace.is_empty() {
            text.push_str(" at the cluster scope");
        } else {
            text.push_str(&format!(" in the namespace {:?}", info.namespace));
        }
        text
    } else {
        format!("User {:?} cannot {} path {:?}", user.name, info.verb, info.path)
    };
    if !why.is_empty() {
        text.push_str(": ");
        text.push_str(why);
    }
    ApiError::forbidden(&info.group, &info.resource, &info.name, &text)
}

fn qualified_path(info: &RequestInfo) -> String {
    info.resource_path()
}

fn impersonate(core: &Core, authenticated: Authenticated, headers: &HeaderMap) -> Result<Authenticated> {
    let wanted =
        auth::impersonation::parse(headers).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let Some(wanted) = wanted else { return Ok(authenticated) };
    let user = authenticated.user().clone();
    for (group, resource, subresource, namespace, name) in wanted.checks() {
        let info = RequestInfo {
            is_resource: true,
            verb: "impersonate",
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        match core.authorizer.authorize(&attributes(&user, &info)) {
            Decision::Allow(_) => {}
            Decision::Deny(why) | Decision::NoOpinion(why) => {
                let resource = qualified(&info.group, &info.resource);
                tracing::info!(user = %user.name, %resource, "an impersonation was refused");
                return Err(refused(&user, &info, &why));
            }
        }
    }
    Ok(authenticated.impersonating(wanted.into_user()))
}
