//! Asks providers, and remembers their answers for as long as they say.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cri::v1::AuthConfig;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::config::{CredentialProviders, Provider, TokenAttributes};
use super::matching::{is_default, matches, pattern, registry};
use crate::cache::Cache;
use crate::counts::{Meter, table};
use crate::pods::spec::PodExt;

/// Upstream's limit for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
const LOCKS: usize = 16;
const GLOBAL: &str = "<global>";

/// Who asked, so that others who may ask the same need not: `None` is the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// Credentials for an image, and for whom they are.
pub type Found = (AuthConfig, Option<Asked>);

/// By provider, what the answer is for (an image, a registry, all), and for whom.
type Key = (String, String, String);
/// Patterns and their credentials.
type Auths = BTreeMap<String, Auth>;

/// The node's providers.
pub struct Providers {
    known: CredentialProviders,
    answers: Cache<Key, Auths>,
    /// One at a time is asked for an image, so that a deployment's pods do not start a program a hundred times. Which
    /// lock an image has does not matter, as long as it is always the same.
    asking: [tokio::sync::Mutex<()>; LOCKS],
    meter: Meter,
}

#[derive(Debug, Clone, Deserialize)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: String,
    kind: String,
    cache_key_type: String,
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<Auths>,
}

/// Why a provider does not help.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the service account: {}", words(.0))]
    Account(#[from] kube::Error),
    #[error("error execing credential provider plugin {name} for image {image}: {source}")]
    Run { name: String, image: String, source: std::io::Error },
    #[error("credential provider plugin {name} for image {image}: {status}: {stderr}")]
    Ended { name: String, image: String, status: String, stderr: String },
    #[error("credential provider plugin {0} did not answer within {PATIENCE:?}")]
    Silent(String),
    #[error("error decoding credential provider plugin response from stdout: {0}")]
    Decode(#[from] serde_json::Error),
    #[error(
        "apiVersion from credential plugin response did not match expected apiVersion:{expected}, actual apiVersion:{actual}"
    )]
    Version { expected: String, actual: String },
    #[error("credential provider plugin did not return a valid {0}")]
    Field(&'static str),
    #[error(
        "credential provider plugin returned the service account token as the password which is not allowed when service account cache type is not set to 'Token'"
    )]
    TokenAsPassword,
}

/// What the API server said, without all that surrounds it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// What a provider is told of the pod's service account.
#[derive(Default)]
struct Account {
    asked: Option<Asked>,
    token: String,
    annotations: BTreeMap<String, String>,
    /// What tells answers for this account from others.
    key: String,
}

impl Providers {
    /// Asks nobody yet.
    pub fn new(known: CredentialProviders, meter: Meter) -> Self {
        Self {
            known,
            answers: Cache::new(meter.clock.clone()),
            asking: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            meter,
        }
    }

    /// All credentials for an image that providers know of, the best first. One that fails is told of, and left out.
    pub async fn credentials(&self, client: &kube::Client, pod: &Pod, image: &str) -> Vec<Found> {
        let mut found: Vec<(String, Found)> = Vec::new();
        let concerned = |provider: &&Provider| provider.match_images.iter().any(|glob| matches(glob, image));
        for provider in self.known.list.iter().filter(concerned) {
            match self.ask(provider, client, pod, image).await {
                Ok(Some((auths, asked))) => found.extend(usable(auths, image, asked.as_ref())),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(provider = provider.name, image, %error, "a credential provider does not help")
                }
            }
        }
        // The longer a pattern, the closer it is meant; upstream sorts them backwards.
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        found.into_iter().map(|(_, found)| found).collect()
    }

    async fn ask(
        &self,
        provider: &Provider,
        client: &kube::Client,
        pod: &Pod,
        image: &str,
    ) -> Result<Option<(Auths, Option<Asked>)>, Failure> {
        let account = match &provider.token_attributes {
            None => Account::default(),
            Some(attributes) => match account(attributes, client, pod).await? {
                Some(account) => account,
                None => return Ok(None),
            },
        };
        let place = Sha256::digest(image).iter().fold(0, |sum: usize, byte| sum + usize::from(*byte)) % LOCKS;
        let _one = match self.asking.get(place) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        for what in [image, registry(image), GLOBAL] {
            let key = (provider.name.clone(), what.to_owned(), account.key.clone());
            if let Some(known) = self.answers.get(&key) {
                return Ok(Some((known, account.asked)));
            }
        }
        let asked = execute(&self.known.programs, provider, image, &account);
        let answer = self.meter.time(&table::PROVIDER, |_| [provider.name.clone()], asked).await;
        let answer = answer.inspect_err(|_| {
            self.meter.counts.count(&table::PROVIDER_ERRORS, &[&provider.name]);
        })?;
        let auths = answer.auth.unwrap_or_default();
        let by_token = provider.token_attributes.as_ref().is_some_and(|a| a.cache_type == "Token");
        if !account.token.is_empty() && !by_token && auths.values().any(|auth| auth.password == account.token)
        {
            return Err(Failure::TokenAsPassword);
        }
        let what = match answer.cache_key_type.as_str() {
            "Image" => image,
            "Registry" => registry(image),
            "Global" => GLOBAL,
            _ => return Err(Failure::Field("cacheKeyType")),
        };
        let holds = match &answer.cache_duration {
            None => provider.cache_duration(),
            Some(text) => crate::configuration::duration(text).ok_or(Failure::Field("cacheDuration"))?,
        };
        if !holds.is_zero() {
            self.answers.put((provider.name.clone(), what.to_owned(), account.key), auths.clone(), holds);
        }
        Ok(Some((auths, account.asked)))
    }
}

/// The credentials among an answer that are for this image, under their patterns.
fn usable(auths: Auths, image: &str, asked: Option<&Asked>) -> Vec<(String, Found)> {
    let docker = |key: &str| is_default(image) && pattern(key) == "index.docker.io";
    let fits = auths.into_iter().filter(|(key, _)| matches(&pattern(key), image) || docker(key));
    let of = |(key, auth): (String, Auth)| {
        let config = AuthConfig {
            username: auth.username,
            password: auth.password,
            server_address: registry(&pattern(&key)).to_owned(),
            ..AuthConfig::default()
        };
        (pattern(&key), (config, asked.cloned()))
    };
    fits.map(of).collect()
}

/// The pod's service account as far as the provider may know it; `None` when it has none that would do.
async fn account(
    attributes: &TokenAttributes,
    client: &kube::Client,
    pod: &Pod,
) -> Result<Option<Account>, Failure> {
    let name = pod.spec().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
    if name.is_empty() {
        let required = attributes.require_service_account == Some(true);
        return Ok((!required).then(Account::default));
    }
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), pod.namespace());
    let object = api.get(name).await?;
    let uid = object.metadata.uid.unwrap_or_default();
    let all = object.metadata.annotations.unwrap_or_default();
    let mut annotations = BTreeMap::new();
    for key in &attributes.required_service_account_annotation_keys {
        let Some(value) = all.get(key) else { return Ok(None) };
        annotations.insert(key.clone(), value.clone());
    }
    for key in &attributes.optional_service_account_annotation_keys {
        annotations.extend(all.get(key).map(|value| (key.clone(), value.clone())));
    }
    let request = TokenRequest {
        metadata: ObjectMeta { uid: Some(uid.clone()), ..ObjectMeta::default() },
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![attributes.service_account_token_audience.clone()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().to_owned()),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let issued = api.create_token_request(name, &PostParams::default(), &request).await?;
    let token = issued.status.and_then(|status| status.token).unwrap_or_default();
    let asked = Asked { uid, namespace: pod.namespace().to_owned(), name: name.to_owned() };
    let per_token = (attributes.cache_type == "Token").then(|| format!("{:x}", Sha256::digest(&token)));
    let key = json!([asked.uid, asked.namespace, asked.name, annotations, per_token]).to_string();
    Ok(Some(Account { asked: Some(asked), token, annotations, key }))
}

async fn execute(
    programs: &Path,
    provider: &Provider,
    image: &str,
    account: &Account,
) -> Result<Answer, Failure> {
    let mut request = json!({
        "kind": "CredentialProviderRequest", "apiVersion": provider.api_version, "image": image,
    });
    if let Some(object) = request.as_object_mut().filter(|_| !account.token.is_empty()) {
        object.insert("serviceAccountToken".to_owned(), json!(account.token));
        object.insert("serviceAccountAnnotations".to_owned(), json!(account.annotations));
    }
    let failed = |source| Failure::Run { name: provider.name.clone(), image: image.to_owned(), source };
    let mut child = Command::new(programs.join(&provider.name))
        .args(&provider.args)
        .envs(provider.env.iter().map(|variable| (&variable.name, &variable.value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let talked = async {
        let told = async {
            // A program that does not want to know is no failure; what it says decides.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(request.to_string().as_bytes()).await;
            }
        };
        let (ended, ()) = tokio::join!(child.wait_with_output(), told);
        ended
    };
    let output = tokio::time::timeout(PATIENCE, talked)
        .await
        .map_err(|_| Failure::Silent(provider.name.clone()))?
        .map_err(failed)?;
    if !output.status.success() {
        return Err(Failure::Ended {
            name: provider.name.clone(),
            image: image.to_owned(),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)?;
    if answer.api_version != provider.api_version {
        return Err(Failure::Version { expected: provider.api_version.clone(), actual: answer.api_version });
    }
    if answer.kind != "CredentialProviderResponse" {
        return Err(Failure::Field("kind"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
