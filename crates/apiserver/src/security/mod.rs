//! Wires authentication and authorization to the watch cache: who has which role, which pod runs where, which
//! account a token belongs to.

mod follow;
mod lookup;
pub mod policy;

use std::sync::Arc;
use std::time::Duration;

use auth::authenticate::{BearerAuthenticator, BootstrapTokens, ServiceAccountTokens, Union as Bearers};
use auth::authorizer::{Authorizer, Union};
use auth::encryption::{Encryption, EncryptionError, Provider};
use auth::node::NodeAuthorizer;
use auth::pki::Pki;
use auth::privileged::{AlwaysAllowPaths, Masters};
use auth::rbac::RbacAuthorizer;
use auth::token::{self, TokenIssuer as Minter};
use auth::user::User;
use base::{SharedClock, SharedRandom};
use jiff::Timestamp;

use crate::codec::Transformer;
use crate::core::Core;
use crate::handlers::token::{TokenIssuer, TokenRequest};
use crate::pipeline::authenticate::TokenAuthenticator;

pub use follow::follow;

/// The parts of a cluster's security, made of its PKI.
#[derive(Clone)]
pub struct Security {
    /// Who may do what by roles.
    pub rbac: Arc<RbacAuthorizer>,
    /// What kubelets may do.
    pub nodes: Arc<NodeAuthorizer>,
    issuer: Arc<Minter>,
    bearers: Arc<Bearers>,
    encryption: Arc<Encryption>,
}

/// Why there is no security: nothing is served without it.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// The built-in policy cannot be read.
    #[error("{0}")]
    Policy(#[from] auth::rbac::PolicyError),
    /// The encryption key is unusable.
    #[error("{0}")]
    Encryption(#[from] EncryptionError),
}

impl Security {
    /// The security of a cluster.
    ///
    /// # Errors
    /// [`SecurityError`].
    pub fn new(
        pki: &Pki,
        issuer: &str,
        clock: &SharedClock,
        random: &SharedRandom,
    ) -> Result<Self, SecurityError> {
        let key = pki.service_account_key().clone();
        let minter = Minter::new(issuer, vec![issuer.to_owned()], key, clock.clone(), random.clone());
        let minter = Arc::new(minter);
        let accounts = ServiceAccountTokens::new(minter.clone(), clock.clone());
        let bootstrap = BootstrapTokens::new(clock.clone());
        let providers = vec![Provider::aes_gcm("key1", pki.encryption_key())?, Provider::Identity];
        Ok(Self {
            rbac: Arc::default(),
            nodes: Arc::new(NodeAuthorizer::new()?),
            issuer: minter,
            bearers: Arc::new(Bearers(vec![Arc::new(accounts), Arc::new(bootstrap)])),
            encryption: Arc::new(Encryption::new(providers, random.clone())),
        })
    }

    /// The authorizers in upstream's order.
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::new(Union(vec![
            Arc::new(Masters),
            Arc::new(AlwaysAllowPaths::default()),
            self.nodes.clone(),
            self.rbac.clone(),
        ]))
    }
}

impl TokenAuthenticator for Security {
    fn authenticate(&self, core: &Core, token: &str, audiences: &[String]) -> Result<Option<User>, String> {
        let lookup = lookup::CacheLookup { core };
        let found =
            self.bearers.authenticate(&lookup, token, audiences).map_err(|error| error.to_string())?;
        Ok(found.map(|found| found.user))
    }
}

impl TokenIssuer for Security {
    fn issue(&self, request: &TokenRequest) -> Result<(String, Timestamp), String> {
        let reference = |(name, uid): (String, String)| token::Reference { name, uid };
        let minted = self
            .issuer
            .mint(&token::TokenRequest {
                namespace: request.namespace.clone(),
                service_account: reference((request.service_account.clone(), request.uid.clone())),
                pod: request.pod.clone().map(reference),
                secret: request.secret.clone().map(reference),
                node: request.node.clone().map(reference),
                audiences: request.audiences.clone(),
                ttl: Duration::from_secs(request.seconds.unsigned_abs()),
                warn_after: None,
            })
            .map_err(|error| error.to_string())?;
        Ok((minted.token, minted.expires))
    }

    fn discovery(&self) -> serde_json::Value {
        let issuer = self.issuer.issuer();
        let document = token::discovery_document(issuer, &format!("{issuer}/openid/v1/jwks"));
        serde_json::from_str(&document).unwrap_or_default()
    }

    fn jwks(&self) -> serde_json::Value {
        serde_json::from_str(&self.issuer.jwks()).unwrap_or_default()
    }
}

impl Transformer for Security {
    fn seal(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        self.encryption.seal(plain, key).map_err(|error| error.to_string())
    }

    fn open(&self, key: &str, stored: &[u8]) -> Result<Vec<u8>, String> {
        self.encryption.open(stored, key).map(|(plain, _)| plain).map_err(|error| error.to_string())
    }
}
