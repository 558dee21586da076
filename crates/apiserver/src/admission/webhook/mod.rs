//! Validating webhooks: called over TLS, all that match at once, with their failure policies.
//!
//! `select` finds those that want to be asked, `review` is what they are told and tell, `call` asks them.

mod call;
mod review;
mod select;

use futures::future::join_all;
use schema::Object;

use super::Attempt;
use crate::status::{ApiError, Result};

/// What is never sent to webhooks, so that a broken one can always be removed.
const OWN_GROUP: &str = "admissionregistration.k8s.io";

/// Asks every webhook that matches.
///
/// # Errors
/// What the first webhook that refuses says; 500 when one with failure policy `Fail` cannot be asked.
pub async fn validate(
    attempt: &Attempt<'_>,
    object: Option<&Object>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if attempt.resource.group == OWN_GROUP {
        return Ok(());
    }
    let hooks = select::matching(attempt, object)?;
    let answers = join_all(hooks.iter().map(|hook| ask(hook, attempt, object))).await;
    for (hook, answer) in hooks.iter().zip(answers) {
        match answer? {
            Ok(answer) => {
                warnings.extend(answer.warnings.clone());
                answer.verdict(&hook.name)?;
            }
            Err(why) if hook.fail_open => {
                tracing::warn!(webhook = %hook.name, %why, "failed calling webhook, failing open");
            }
            Err(why) => {
                return Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)));
            }
        }
    }
    Ok(())
}

/// Asks one webhook. What it says, or why it says nothing.
///
/// # Errors
/// What no failure policy covers: 400 for a webhook that does more than look, in a dry run.
async fn ask(
    hook: &select::Hook,
    attempt: &Attempt<'_>,
    object: Option<&Object>,
) -> Result<std::result::Result<review::Answer, String>> {
    if attempt.dry_run && hook.has_side_effects {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(ApiError::bad_request(why));
    }
    let Some(version) = hook.review_version else {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Ok(Err(format!("could not create admission objects: {why}")));
    };
    let review = review::Review::new(version, hook, attempt, object)?;
    let body = match call::post(hook, attempt, review.to_json()).await {
        Ok(body) => body,
        Err(why) => return Ok(Err(format!("failed to call webhook: {why}"))),
    };
    Ok(review.read(&body))
}
