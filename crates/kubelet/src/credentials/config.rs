//! `--image-credential-provider-config`: a CredentialProviderConfig (`kubelet.config.k8s.io/v1`), or a folder of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

const VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
const PROTOCOLS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
];

/// Why the providers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialProviderError {
    /// A file or folder cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("error decoding config {:?}: {why}", path.display().to_string())]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A folder without files.
    #[error("no configuration files found in directory {:?}", .0.display().to_string())]
    None(PathBuf),
    /// Values that cannot be.
    #[error("failed to validate credential provider config: {}", .0.join(", "))]
    Invalid(Vec<String>),
    /// A provider's program is not there, or cannot be run.
    #[error("plugin binary executable {} did not exist, or is not executable", .0.display())]
    Program(PathBuf),
}

/// All providers of a configuration, and where their programs are.
#[derive(Debug, Clone, Default)]
pub struct CredentialProviders {
    pub(super) list: Vec<Provider>,
    pub(super) programs: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<Provider>,
}

/// One provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    pub name: String,
    #[serde(default)]
    pub match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<Variable>,
    pub token_attributes: Option<TokenAttributes>,
}

impl Provider {
    /// How long answers hold that do not say it.
    pub fn cache_duration(&self) -> Duration {
        self.default_cache_duration.as_deref().and_then(crate::configuration::duration).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
}

/// What a provider is told of the pod's service account.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenAttributes {
    #[serde(default)]
    pub service_account_token_audience: String,
    /// `ServiceAccount` or `Token`.
    #[serde(default)]
    pub cache_type: String,
    pub require_service_account: Option<bool>,
    #[serde(default)]
    pub required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    pub optional_service_account_annotation_keys: Vec<String>,
}

impl CredentialProviders {
    /// Reads them, and sees to it that their programs are there.
    ///
    /// # Errors
    /// [`CredentialProviderError`].
    pub fn load(path: &Path, programs: &Path) -> Result<Self, CredentialProviderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CredentialProviderError::Read { path, source }
        };
        let mut files = Vec::new();
        if path.is_dir() {
            for entry in std::fs::read_dir(path).map_err(failed(path))? {
                let path = entry.map_err(failed(path))?.path();
                let is_config =
                    path.extension().is_some_and(|end| end == "json" || end == "yaml" || end == "yml");
                if is_config && !path.is_dir() {
                    files.push(path);
                }
            }
            files.sort();
            if files.is_empty() {
                return Err(CredentialProviderError::None(path.to_owned()));
            }
        } else {
            files.push(path.to_owned());
        }
        let mut list = Vec::new();
        for path in files {
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            list.extend(parse(&text).map_err(|why| CredentialProviderError::Decode { path, why })?);
        }
        let wrong = validate(&list);
        if !wrong.is_empty() {
            return Err(CredentialProviderError::Invalid(wrong));
        }
        for provider in &list {
            let program = programs.join(&provider.name);
            if nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK).is_err() || !program.is_file() {
                return Err(CredentialProviderError::Program(program));
            }
        }
        Ok(Self { list, programs: programs.to_owned() })
    }
}

fn parse(text: &str) -> Result<Vec<Provider>, String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    if file.kind != "CredentialProviderConfig" {
        return Err(format!("failed to decode {:?} (wrong Kind)", file.kind));
    }
    if !VERSIONS.contains(&file.api_version.as_str()) {
        return Err(format!("unexpected version {:?}: one of {}", file.api_version, VERSIONS.join(", ")));
    }
    Ok(file.providers)
}

/// What is wrong, in upstream's words.
fn validate(list: &[Provider]) -> Vec<String> {
    let mut wrong = Vec::new();
    if list.is_empty() {
        wrong.push("providers: Required value: at least 1 item in plugins is required".to_owned());
    }
    let mut seen = BTreeSet::new();
    for provider in list {
        let name = provider.name.as_str();
        if name.is_empty() || name.contains(['/', ' ']) || name == "." || name == ".." {
            wrong.push(format!(
                "providers.name: Invalid value: {name:?}: provider name cannot be empty, '.' or '..', nor contain '/' or spaces"
            ));
        }
        if !seen.insert(name) {
            wrong.push(format!("duplicate provider name {name:?} found in configuration file(s)"));
        }
        if provider.api_version.is_empty() {
            wrong.push("providers.apiVersion: Required value".to_owned());
        } else if !PROTOCOLS.contains(&provider.api_version.as_str()) {
            wrong.push(format!(
                "providers.apiVersion: Unsupported value: {:?}: supported values: {}",
                provider.api_version,
                PROTOCOLS.map(|name| format!("{name:?}")).join(", ")
            ));
        }
        if provider.match_images.is_empty() {
            wrong.push(
                "providers.matchImages: Required value: at least 1 item in matchImages is required"
                    .to_owned(),
            );
        }
        match &provider.default_cache_duration {
            None => wrong.push("providers.defaultCacheDuration: Required value".to_owned()),
            Some(text) if crate::configuration::duration(text).is_none() => wrong.push(format!(
                "providers.defaultCacheDuration: Invalid value: {text:?}: must be a duration greater than or equal to 0"
            )),
            Some(_) => {}
        }
        if let Some(attributes) = &provider.token_attributes {
            token_attributes(provider, attributes, &mut wrong);
        }
    }
    wrong
}

fn token_attributes(provider: &Provider, attributes: &TokenAttributes, wrong: &mut Vec<String>) {
    let at = "providers.tokenAttributes";
    if attributes.service_account_token_audience.is_empty() {
        wrong.push(format!("{at}.serviceAccountTokenAudience: Required value"));
    }
    let required = &attributes.required_service_account_annotation_keys;
    match attributes.require_service_account {
        None => wrong.push(format!("{at}.requireServiceAccount: Required value")),
        Some(false) if !required.is_empty() => wrong.push(format!(
            "{at}.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set"
        )),
        Some(_) => {}
    }
    if Some(provider.api_version.as_str()) != PROTOCOLS.first().copied() {
        wrong.push(format!(
            "{at}: Forbidden: tokenAttributes is only supported for credentialprovider.kubelet.k8s.io/v1 API version"
        ));
    }
    let optional = &attributes.optional_service_account_annotation_keys;
    for (name, keys) in [
        ("requiredServiceAccountAnnotationKeys", required),
        ("optionalServiceAccountAnnotationKeys", optional),
    ] {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for key in keys {
            *counts.entry(key).or_default() += 1;
        }
        for (key, _) in counts.iter().filter(|(_, count)| **count > 1) {
            wrong.push(format!("{at}.{name}: Duplicate value: {key:?}"));
        }
    }
    if required.iter().any(|key| optional.contains(key)) {
        wrong.push(format!("{at}: Invalid value: annotation keys cannot be both required and optional"));
    }
    match attributes.cache_type.as_str() {
        "ServiceAccount" | "Token" => {}
        "" => wrong.push(format!(
            "{at}.cacheType: Required value: cacheType is required to be set when tokenAttributes is specified. Supported values are: ServiceAccount, Token"
        )),
        other => wrong.push(format!(
            "{at}.cacheType: Unsupported value: {other:?}: supported values: \"ServiceAccount\", \"Token\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    const GOOD: &str = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n\
                        - name: ecr\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: ['*.io']\n  \
                        defaultCacheDuration: 12h\n  env: [{name: A, value: b}]\n";

    #[test]
    fn upstreams_file_is_read_and_its_program_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, GOOD).unwrap();
        let missing = CredentialProviders::load(&file, dir.path()).unwrap_err().to_string();
        assert!(missing.contains("ecr did not exist"), "{missing}");
        let program = dir.path().join("ecr");
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(program)
            .unwrap();
        // A folder's files are read in the order of their names, and others left alone.
        for path in [file.as_path(), dir.path()] {
            let found = CredentialProviders::load(path, dir.path()).unwrap();
            assert_eq!(found.list.len(), 1);
            assert_eq!(found.list[0].cache_duration(), Duration::from_secs(12 * 3600));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told = |text: &str| validate(&parse(text).unwrap()).join("\n");
        assert_eq!(told(GOOD), "");
        let tokens = GOOD.replace("  env:", "  tokenAttributes: {requireServiceAccount: false, requiredServiceAccountAnnotationKeys: [a]}\n  env:");
        let said = told(&tokens);
        for part in ["serviceAccountTokenAudience: Required", "cacheType: Required", "cannot be false"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let bad = GOOD
            .replace("name: ecr", "name: a/b")
            .replace("12h", "1x")
            .replace("k8s.io/v1\n  match", "k8s.io/v9\n  match");
        let said = told(&bad);
        for part in ["providers.name", "defaultCacheDuration: Invalid", "apiVersion: Unsupported"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(parse(&GOOD.replace("matchImages", "matchImage")).is_err(), "an unknown field");
        assert!(parse(&GOOD.replace("kind: Cred", "kind: X")).unwrap_err().contains("wrong Kind"));
    }
}
