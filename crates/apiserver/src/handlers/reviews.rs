//! Kinds that are answered and forgotten: access reviews, token reviews, and who one is.

use std::sync::Arc;

use auth::authorizer::{Attributes, Decision};
use auth::user::User;
use http::Response;
use schema::{Object, Value};

use super::resource::Call;
use crate::answer::plain_object;
use crate::body::Body;
use crate::negotiate;
use crate::registry::Resource;
use crate::status::{ApiError, Result};
use crate::write::decode::Decoded;

/// Answers a review.
pub type Review = fn(&Call<'_>, Decoded) -> Result<Response<Body>>;

/// The review that a resource is, if it is one.
pub fn of(resource: &Arc<Resource>) -> Option<Review> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("authorization.k8s.io", "SelfSubjectRulesReview") => Some(rules),
        ("authorization.k8s.io", _) => Some(access),
        ("authentication.k8s.io", "TokenReview") => Some(token),
        ("authentication.k8s.io", "SelfSubjectReview") => Some(whoami),
        _ => None,
    }
}

fn answer(call: &Call<'_>, object: &Object) -> Result<Response<Body>> {
    let output = negotiate::accept(&call.parts.headers, false)?;
    plain_object(object, output.encoding, 201)
}

fn set_status(object: &mut Object, json: &serde_json::Value) -> Result<()> {
    let ty = match object.ty().field("status") {
        Some((_, field)) => match &field.ty {
            schema::types::Type::Struct(ty) => ty.clone(),
            _ => return Err(ApiError::internal("the status of a review is no struct")),
        },
        None => return Err(ApiError::internal("a review without a status")),
    };
    let status = schema::json::decode(&ty, json.to_string().as_bytes()).map_err(ApiError::internal)?;
    object.set("status", Value::Struct(status.object));
    Ok(())
}

fn texts(object: Option<&Object>, field: &str) -> Vec<String> {
    let list = object.and_then(|object| object.list_at(&[field])).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn access(call: &Call<'_>, decoded: Decoded) -> Result<Response<Body>> {
    let (mut review, _) = decoded.into_parts();
    let spec = review.struct_at(&["spec"]).cloned();
    let text =
        |path: &[&str]| spec.as_ref().and_then(|spec| spec.str_at(path)).unwrap_or_default().to_owned();
    let asks_for_self = call.resource.kind == "SelfSubjectAccessReview";
    let user = if asks_for_self {
        call.authorized.user().as_ref().clone()
    } else {
        User {
            name: text(&["user"]),
            uid: text(&["uid"]),
            groups: texts(spec.as_ref(), "groups"),
            ..User::default()
        }
    };
    if !asks_for_self && user.name.is_empty() && user.groups.is_empty() {
        let mut errors = kinds::field::Errors::new();
        errors.required(
            &kinds::field::Path::new("spec").child("user"),
            "at least one of user or group must be specified",
        );
        return Err(ApiError::invalid("authorization.k8s.io", &call.resource.kind, "", &errors));
    }
    let resource = spec.as_ref().and_then(|spec| spec.struct_at(&["resourceAttributes"]));
    let path = spec.as_ref().and_then(|spec| spec.struct_at(&["nonResourceAttributes"]));
    if resource.is_some() == path.is_some() {
        let mut errors = kinds::field::Errors::new();
        let at = kinds::field::Path::new("spec").child("resourceAttributes");
        errors.invalid(
            &at,
            kinds::field::Json("null".to_owned()),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
        return Err(ApiError::invalid("authorization.k8s.io", &call.resource.kind, "", &errors));
    }
    let part = |name: &str| {
        resource.or(path).and_then(|object| object.str_at(&[name])).unwrap_or_default().to_owned()
    };
    let (verb, group, version, plural, sub, name, namespace, target) = (
        part("verb"),
        part("group"),
        part("version"),
        part("resource"),
        part("subresource"),
        part("name"),
        part("namespace"),
        part("path"),
    );
    let decision = call.core.authorizer.authorize(&Attributes {
        user: &user,
        verb: &verb,
        api_group: &group,
        api_version: &version,
        resource: &plural,
        subresource: &sub,
        name: &name,
        namespace: &namespace,
        path: &target,
        is_resource: resource.is_some(),
    });
    let status = match decision {
        Decision::Allow(reason) => serde_json::json!({"allowed": true, "reason": reason}),
        Decision::Deny(reason) => serde_json::json!({"allowed": false, "denied": true, "reason": reason}),
        Decision::NoOpinion(reason) => serde_json::json!({"allowed": false, "reason": reason}),
    };
    set_status(&mut review, &status)?;
    answer(call, &review)
}

fn rules(call: &Call<'_>, decoded: Decoded) -> Result<Response<Body>> {
    let (mut review, _) = decoded.into_parts();
    let namespace = review.str_at(&["spec", "namespace"]).unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = call.core.authorizer.rules_for(call.authorized.user(), &namespace);
    let (paths, resources): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let status =
        serde_json::json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    set_status(&mut review, &status)?;
    answer(call, &review)
}

fn user_json(user: &User) -> serde_json::Value {
    serde_json::json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra})
}

fn token(call: &Call<'_>, decoded: Decoded) -> Result<Response<Body>> {
    let (mut review, _) = decoded.into_parts();
    let token = review.str_at(&["spec", "token"]).unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = texts(review.struct_at(&["spec"]), "audiences");
    let status = match call.core.authenticator.token(call.core, &token, &audiences) {
        Ok(Some(user)) => {
            let audiences =
                if audiences.is_empty() { vec![call.core.settings.issuer.clone()] } else { audiences };
            serde_json::json!({"authenticated": true, "user": user_json(&user), "audiences": audiences})
        }
        Ok(None) => serde_json::json!({"authenticated": false}),
        Err(why) => serde_json::json!({"authenticated": false, "error": why}),
    };
    set_status(&mut review, &status)?;
    answer(call, &review)
}

fn whoami(call: &Call<'_>, decoded: Decoded) -> Result<Response<Body>> {
    let (mut review, _) = decoded.into_parts();
    set_status(&mut review, &serde_json::json!({"userInfo": user_json(call.authorized.user())}))?;
    answer(call, &review)
}
