//! Does what the plan says with one certificate request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Request, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::plan::{Action, Site, plan};
use crate::context::Context;

/// Looks at one request.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, name: String) -> Result<Option<Duration>, kube::Error> {
    let Some(signer) = &context.settings.signer else { return Ok(None) };
    let Some(request) = context.informers.certificate_requests.get(&name) else { return Ok(None) };
    let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
    let asked = signer.read(&pem);
    let node = asked.as_ref().ok().and_then(|asked| asked.name.strip_prefix("system:node:"));
    let node = node.and_then(|node| context.informers.nodes.get(node));
    let foreign = foreign(context, node.as_deref());
    let site = Site { node: node.as_deref(), foreign: &foreign };
    match plan(&request, &asked, site, context.clock.now()) {
        Action::Wait(left) => return Ok(Some(left)),
        Action::Remove => {
            let requests: Api<Request> = Api::all(context.clients.certificates.clone());
            gone_is_fine(requests.delete(&name, &DeleteParams::default()).await.map(|_| ()))?;
        }
        Action::ApproveIf { subresource, message } => {
            if allowed(&context.clients.certificates, &request, subresource).await? {
                approve(context, &context.clients.certificates, &request, message).await?;
            }
        }
        Action::ApproveServing => {
            let message = "Auto approving kubelet serving certificate for addresses of the node.";
            approve(context, &context.clients.kubelet_serving, &request, message).await?;
        }
        Action::Sign { client, server, ttl } => {
            let mut signed = (*request).clone();
            let status = signed.status.get_or_insert_default();
            match signer.sign(&pem, client, server, ttl) {
                Ok(certificate) => status.certificate = Some(ByteString(certificate.into_bytes())),
                Err(why) => push(context, status, "Failed", "SignerValidationFailure", &why),
            }
            update_status(context, &signed).await?;
        }
        Action::Fail(why) => {
            let mut failed = (*request).clone();
            push(context, failed.status.get_or_insert_default(), "Failed", "SignerValidationFailure", &why);
            update_status(context, &failed).await?;
        }
    }
    Ok(None)
}

/// The addresses of every other node, and those of the API server.
fn foreign(context: &Context, own: Option<&Node>) -> BTreeSet<String> {
    let name = |node: &Node| node.metadata.name.clone();
    let mut foreign = BTreeSet::new();
    for (_, node) in context.informers.nodes.list() {
        if own.is_some_and(|own| name(own) == name(&node)) {
            continue;
        }
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
        foreign.extend(addresses.into_iter().flatten().map(|known| known.address.clone()));
    }
    if let Some(service) = context.informers.services.get("default/kubernetes") {
        foreign.extend(service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten().cloned()));
    }
    if let Some(slice) = context.informers.slices.get("default/kubernetes") {
        let endpoints = slice.endpoints.clone();
        foreign.extend(endpoints.into_iter().flatten().flat_map(|endpoint| endpoint.addresses));
    }
    foreign
}

fn push(
    context: &Context,
    status: &mut k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus,
    kind: &str,
    reason: &str,
    message: &str,
) {
    let now = Time(context.clock.now());
    status.conditions.get_or_insert_default().push(Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    });
}

async fn allowed(client: &Client, request: &Request, subresource: &str) -> Result<bool, kube::Error> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                subresource: Some(subresource.to_owned()),
                verb: Some("create".to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn approve(
    context: &Context,
    client: &Client,
    request: &Request,
    why: &str,
) -> Result<(), kube::Error> {
    let mut approved = request.clone();
    push(context, approved.status.get_or_insert_default(), "Approved", "AutoApproved", why);
    put(client, &approved, "approval").await
}

async fn update_status(context: &Context, request: &Request) -> Result<(), kube::Error> {
    put(&context.clients.certificates, request, "status").await
}

async fn put(client: &Client, request: &Request, subresource: &str) -> Result<(), kube::Error> {
    let requests: Api<Request> = Api::all(client.clone());
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let replaced = requests.replace_subresource(subresource, name, &PostParams::default(), request).await;
    gone_is_fine(replaced.map(|_| ()))
}

fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
