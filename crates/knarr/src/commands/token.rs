//! `knarr token`: what lets other machines join the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use auth::pki::{Pki, join};
use base::{Random, SystemClock, SystemRandom};
use clap::{Args, Subcommand};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};

use super::Which;
use crate::cluster::Settings;
use crate::component::go_duration;

const KIND: &str = "bootstrap.kubernetes.io/token";

/// `knarr token`
#[derive(Debug, Args)]
pub struct Token {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, and print the command that joins with it
    Create {
        /// How long it may be used; 0 for ever
        #[arg(long, default_value = "24h", value_parser = go_duration)]
        ttl: Duration,
        /// Print the token alone
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the tokens, without their secrets
    Ls,
    /// Remove a token
    Rm {
        /// The part before the first dot
        id: String,
    },
}

impl Token {
    /// Runs the command on the server's machine.
    pub fn run(self) -> Result<()> {
        let paths = self.which.paths();
        let settings = Settings::load(&paths.settings())?.with_context(|| {
            format!("there is no cluster {:?} on this machine: run this where the server is", self.which.name)
        })?;
        let pki = Pki::load_or_create(&paths.pki(), SystemClock::shared(), SystemRandom::shared())?;
        let kubeconfig = super::administrator(&paths, &settings)?;
        super::block_on(async {
            let client = client::connect::kubeconfig(&kubeconfig).await?;
            let secrets: Api<Secret> = Api::namespaced(client, "kube-system");
            match &self.command {
                Command::Create { ttl, quiet } => create(&secrets, &settings, &pki, *ttl, *quiet).await,
                Command::Ls => list(&secrets).await,
                Command::Rm { id } => {
                    let name = format!("bootstrap-token-{id}");
                    secrets.delete(&name, &DeleteParams::default()).await.context("removing the token")?;
                    Ok(())
                }
            }
        })
    }
}

fn characters(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let one =
        |_| usize::try_from(SystemRandom.below(ALPHABET.len() as u64)).ok().and_then(|at| ALPHABET.get(at));
    (0..length).filter_map(one).map(|&byte| char::from(byte)).collect()
}

async fn create(
    secrets: &Api<Secret>,
    settings: &Settings,
    pki: &Pki,
    ttl: Duration,
    quiet: bool,
) -> Result<()> {
    let (id, secret) = (characters(6), characters(16));
    let mut data = BTreeMap::from([
        ("token-id", id.clone()),
        ("token-secret", secret.clone()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("description", "made by knarr token create".to_owned()),
    ]);
    if !ttl.is_zero() {
        let end = SystemClock::shared().now().checked_add(ttl)?;
        data.insert("expiration", jiff::Timestamp::from_second(end.as_second())?.to_string());
    }
    let data =
        data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect();
    let object = Secret {
        metadata: ObjectMeta { name: Some(format!("bootstrap-token-{id}")), ..Default::default() },
        type_: Some(KIND.to_owned()),
        data: Some(data),
        ..Default::default()
    };
    secrets.create(&PostParams::default(), &object).await.context("making the token")?;
    let token = format!("{id}.{secret}.{}", join::hash(pki.ca_pem())?);
    if quiet {
        say!("{token}");
    } else {
        say!("knarr agent --server https://{}:{} --token {token}", settings.advertise, settings.port);
    }
    Ok(())
}

async fn list(secrets: &Api<Secret>) -> Result<()> {
    let found = secrets.list(&ListParams::default().fields(&format!("type={KIND}"))).await?;
    for secret in found.items {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
        };
        let end = text("expiration");
        say!("{}\t{}", text("token-id"), if end.is_empty() { "for ever" } else { &end });
    }
    Ok(())
}
