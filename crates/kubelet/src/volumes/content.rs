//! The files of config maps, secrets, the downward API, tokens, and projections of those.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::SharedClock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

use super::Cause;
use super::atomic::{File, Files};
use super::pod_certificate::PodCertificates;
use super::together::Together;
use crate::pods::Surroundings;
use crate::pods::spec::PodExt;

const TOKEN_SECONDS: i64 = 3600;

/// What a volume is to hold.
pub struct Wanted {
    pub plugin: &'static str,
    /// It must not reach a disk.
    pub secret: bool,
    pub files: Files,
    /// When it may be different.
    pub again: Timestamp,
}

struct Token {
    text: String,
    /// A steady time: a clock that is set back must not let it outlive what the API server grants.
    refresh_at: Timestamp,
}

/// By audience and life in seconds.
type PodTokens = HashMap<(String, i64), Token>;

/// Fetches from the API. Tokens are kept until most of their life is over.
pub struct Fetcher {
    client: kube::Client,
    clock: SharedClock,
    /// After so long the files are compared with the API again (`syncFrequency`).
    refresh: SignedDuration,
    /// Whether files may have owners of their own.
    owned: bool,
    /// By pod.
    tokens: Mutex<HashMap<String, PodTokens>>,
    certificates: PodCertificates,
    /// By kind, namespace and name.
    together: Together<(&'static str, String, String), Result<Option<Arc<Data>>, Arc<kube::Error>>>,
}

/// The folder of the volumes whose files come from the API.
pub fn plugin(volume: &Volume) -> Option<&'static str> {
    match volume {
        Volume { config_map: Some(_), .. } => Some("configmap"),
        Volume { secret: Some(_), .. } => Some("secret"),
        Volume { downward_api: Some(_), .. } => Some("downward-api"),
        Volume { projected: Some(_), .. } => Some("projected"),
        _ => None,
    }
}

type Data = BTreeMap<String, Vec<u8>>;

/// How the files of a volume are, of which nothing else is said.
#[derive(Debug, Clone, Copy)]
struct Usual {
    mode: u32,
    owner: Option<u32>,
    /// Whether a file may have an owner of its own (KEP-5936).
    owned: bool,
}

impl Usual {
    fn new(mode: Option<i32>, user: Option<i64>, owned: bool) -> Self {
        let usual = Self { mode: 0o644, owner: None, owned };
        Self { mode: usual.mode(mode), owner: usual.owner(user), owned }
    }

    fn mode(&self, mode: Option<i32>) -> u32 {
        mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(self.mode)
    }

    fn owner(&self, user: Option<i64>) -> Option<u32> {
        user.filter(|_| self.owned).and_then(|user| u32::try_from(user).ok()).or(self.owner)
    }
}

/// Picks the wanted keys.
fn pick(data: &Data, items: Option<&Vec<KeyToPath>>, usual: Usual, optional: bool) -> Result<Files, Cause> {
    let file = |content: &Vec<u8>, mode, user| File {
        content: content.clone(),
        mode: usual.mode(mode),
        owner: usual.owner(user),
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.iter().map(|(key, content)| (key.clone(), file(content, None, None))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                files.insert(item.path.clone(), file(content, item.mode, item.user));
            }
            None if optional => {}
            None => return Err(Cause::Key(item.key.clone())),
        }
    }
    Ok(files)
}

fn downward(
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    surroundings: &Surroundings<'_>,
    usual: Usual,
) -> Result<Files, Cause> {
    let mut files = Files::new();
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => surroundings.field(&field.field_path)?,
            (_, Some(resource)) => surroundings.resource(None, resource)?,
            _ => String::new(),
        };
        let (mode, owner) = (usual.mode(item.mode), usual.owner(item.user));
        let file = File { content: text.into_bytes(), mode, owner };
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}

pub fn failed(error: kube::Error) -> Cause {
    Cause::Api(Arc::new(error))
}

fn or_nothing(
    data: Option<Arc<Data>>,
    kind: &'static str,
    name: &str,
    optional: bool,
) -> Result<Arc<Data>, Cause> {
    match data {
        Some(data) => Ok(data),
        None if optional => Ok(Arc::default()),
        None => Err(Cause::Missing { kind, name: name.to_owned() }),
    }
}

impl Fetcher {
    /// Of files below `pods`, which are compared with the API so often; whether they may have owners of their own.
    pub fn new(
        client: kube::Client,
        pods: PathBuf,
        clock: SharedClock,
        (refresh, owned): (Duration, bool),
    ) -> Self {
        let certificates = PodCertificates::new(pods, clock.clone());
        let refresh = SignedDuration::try_from(refresh).unwrap_or(SignedDuration::MAX);
        Self {
            client,
            clock,
            refresh,
            owned,
            tokens: Mutex::default(),
            certificates,
            together: Together::default(),
        }
    }

    /// Who asks.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// How pods' certificates are, by signer.
    pub fn certificates(&self) -> BTreeMap<(String, &'static str), u32> {
        self.certificates.states()
    }

    /// Forgets a pod's tokens and keys.
    pub fn forget(&self, uid: &str) {
        self.certificates.forget(uid);
        self.tokens.lock().remove(uid);
    }

    /// What a volume is to hold; `None` for types that do not come from the API.
    pub async fn content(
        &self,
        pod: &Pod,
        volume: &Volume,
        known: &Surroundings<'_>,
    ) -> Result<Option<Wanted>, Cause> {
        let Some(plugin) = plugin(volume) else { return Ok(None) };
        let namespace = pod.namespace();
        let mut again = self.clock.now().checked_add(self.refresh).unwrap_or(Timestamp::MAX);
        let usual = |mode, user| Usual::new(mode, user, self.owned);
        let files = if let Some(source) = &volume.config_map {
            let optional = source.optional == Some(true);
            let data = self.config_map(namespace, &source.name, optional).await?;
            pick(&data, source.items.as_ref(), usual(source.default_mode, source.default_user), optional)?
        } else if let Some(source) = &volume.secret {
            let optional = source.optional == Some(true);
            let data =
                self.secret(namespace, source.secret_name.as_deref().unwrap_or_default(), optional).await?;
            pick(&data, source.items.as_ref(), usual(source.default_mode, source.default_user), optional)?
        } else if let Some(source) = &volume.downward_api {
            downward(source.items.as_ref(), known, usual(source.default_mode, source.default_user))?
        } else {
            let source = volume.projected.clone().unwrap_or_default();
            let usual = usual(source.default_mode, source.default_user);
            let mut files = Files::new();
            for projection in source.sources.iter().flatten() {
                let (more, next) = self.projection(pod, projection, known, usual).await?;
                files.extend(more);
                again = again.min(next.unwrap_or(again));
            }
            files
        };
        Ok(Some(Wanted {
            plugin,
            secret: volume.secret.is_some() || volume.projected.is_some(),
            files,
            again,
        }))
    }

    async fn projection(
        &self,
        pod: &Pod,
        projection: &VolumeProjection,
        known: &Surroundings<'_>,
        usual: Usual,
    ) -> Result<(Files, Option<Timestamp>), Cause> {
        let namespace = pod.namespace();
        if let Some(source) = &projection.config_map {
            let optional = source.optional == Some(true);
            let data = self.config_map(namespace, &source.name, optional).await?;
            return Ok((pick(&data, source.items.as_ref(), usual, optional)?, None));
        }
        if let Some(source) = &projection.secret {
            let optional = source.optional == Some(true);
            let data = self.secret(namespace, &source.name, optional).await?;
            return Ok((pick(&data, source.items.as_ref(), usual, optional)?, None));
        }
        if let Some(source) = &projection.downward_api {
            return Ok((downward(source.items.as_ref(), known, usual)?, None));
        }
        if let Some(source) = &projection.service_account_token {
            let (text, refresh_at) = self.token(pod, source).await?;
            let (reader, mode) = token_access(pod, usual.mode);
            let owner = usual.owner(source.user).or(reader);
            let file = File { content: text.into_bytes(), mode, owner };
            return Ok((Files::from([(source.path.clone(), file)]), Some(refresh_at)));
        }
        if let Some(source) = &projection.cluster_trust_bundle {
            let bundle = super::trust::bundle(&self.client, source).await?;
            let file = File { content: bundle, mode: usual.mode, owner: usual.owner(source.user) };
            return Ok((Files::from([(source.path.clone(), file)]), None));
        }
        if let Some(source) = &projection.pod_certificate {
            let (reader, mode) = token_access(pod, usual.mode);
            let access = (usual.owner(source.user).or(reader), mode);
            return self.certificates.files(&self.client, pod, source, access).await;
        }
        Err(Cause::Unsupported)
    }

    async fn config_map(&self, namespace: &str, name: &str, optional: bool) -> Result<Arc<Data>, Cause> {
        let data = self.data("configmap", namespace, name, || async {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            Ok(api.get_opt(name).await?.map(|map| {
                let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
                let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
                text.chain(binary).collect()
            }))
        });
        data.await.and_then(|data| or_nothing(data, "configmap", name, optional))
    }

    async fn secret(&self, namespace: &str, name: &str, optional: bool) -> Result<Arc<Data>, Cause> {
        let data = self.data("secret", namespace, name, || async {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let secret = api.get_opt(name).await?;
            Ok(secret
                .map(|secret| secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()))
        });
        data.await.and_then(|data| or_nothing(data, "secret", name, optional))
    }

    /// Asks for an object once, for all pods that want it now.
    async fn data<F: Future<Output = kube::Result<Option<Data>>>>(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
        request: impl FnOnce() -> F,
    ) -> Result<Option<Arc<Data>>, Cause> {
        let answer = async || request().await.map(|data| data.map(Arc::new)).map_err(Arc::new);
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.together.ask(key, answer).await.map_err(Cause::Api)
    }

    /// A token of the pod's service account, and when to ask for the next one.
    async fn token(
        &self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<(String, Timestamp), Cause> {
        let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let key = (source.audience.clone().unwrap_or_default(), seconds);
        let (now, steady) = (self.clock.now(), self.clock.steady());
        let due = |life: SignedDuration| now.checked_add(life).unwrap_or(now);
        if let Some(token) = self.tokens.lock().get(pod.uid()).and_then(|tokens| tokens.get(&key))
            && steady < token.refresh_at
        {
            return Ok((token.text.clone(), due(token.refresh_at.duration_since(steady))));
        }
        let account =
            pod.spec().and_then(|spec| spec.service_account_name.as_deref()).filter(|name| !name.is_empty());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(
                    source.audience.iter().filter(|audience| !audience.is_empty()).cloned().collect(),
                ),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod.namespace());
        let answer =
            api.create_token_request(account.unwrap_or("default"), &PostParams::default(), &request).await;
        let status = answer.map_err(failed)?.status.unwrap_or_default();
        let expires = status.expiration_timestamp.map_or(now, |time| time.0);
        // Four fifths of its life, but never more than a day.
        let life = (expires.duration_since(now) * 4 / 5).min(SignedDuration::from_hours(24));
        let refresh_at = steady.checked_add(life).unwrap_or(steady);
        let text = status.token.unwrap_or_default();
        let token = Token { text: text.clone(), refresh_at };
        self.tokens.lock().entry(pod.uid().to_owned()).or_default().insert(key, token);
        Ok((text, due(life)))
    }
}

/// A token is its reader's alone, if there is one user who reads it.
fn token_access(pod: &Pod, mode: u32) -> (Option<u32>, u32) {
    let of_pod = pod.security().and_then(|security| security.run_as_user);
    let mut users = pod
        .init_containers()
        .iter()
        .chain(pod.containers())
        .map(|container| container.security_context.as_ref().and_then(|own| own.run_as_user).or(of_pod));
    let first = users.next().flatten().filter(|first| users.all(|user| user == Some(*first)));
    let owner = first.and_then(|user| u32::try_from(user).ok());
    let private = owner.is_some() || pod.security().and_then(|security| security.fs_group).is_some();
    (owner, if private { 0o600 } else { mode })
}
