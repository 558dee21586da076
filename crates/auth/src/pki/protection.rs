//! What servers ask of TLS beyond what is safe anyway: a newer version, or fewer cipher suites. Names are Go's, as
//! components' flags have them (`component-base/cli/flag`).

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// Suites that Go knows and that are not offered here: without forward secrecy, or not authenticated as one.
const NEVER_OFFERED: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// See the module. By default all that is safe: TLS 1.2 and 1.3 with every suite.
#[derive(Debug, Clone)]
pub struct Protection {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Default for Protection {
    fn default() -> Self {
        Self { provider: Arc::new(default_provider()), versions: vec![&TLS13, &TLS12] }
    }
}

/// The name that Go has for a suite.
fn name(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

impl Protection {
    /// Keys are agreed on in these groups alone, by their numbers (`CurveP256` is 23); none are all. What was named and
    /// is not offered comes back.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn with_curves(mut self, curves: &[i32]) -> Result<(Self, Vec<i32>), String> {
        if curves.is_empty() {
            return Ok((self, Vec::new()));
        }
        let mut provider = CryptoProvider::clone(&self.provider);
        let number = |group: &&'static dyn SupportedKxGroup| i32::from(u16::from(group.name()));
        let known: Vec<i32> = provider.kx_groups.iter().map(number).collect();
        provider.kx_groups.retain(|group| curves.contains(&number(group)));
        if provider.kx_groups.is_empty() {
            return Err(format!("none of the curves {curves:?} is offered here: {known:?} are"));
        }
        self.provider = Arc::new(provider);
        Ok((self, curves.iter().copied().filter(|curve| !known.contains(curve)).collect()))
    }

    /// At least this version (`VersionTLS12`; none is the oldest that is safe), and of TLS 1.2 only these suites (none
    /// are all). Those of TLS 1.3 cannot be chosen, as in Go. What was named and is not offered comes back.
    ///
    /// # Errors
    /// What names nothing, in upstream's words.
    pub fn new(min_version: &str, suites: &[String]) -> Result<(Self, Vec<String>), String> {
        let mut chosen = Self::default();
        match min_version {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => {}
            "VersionTLS13" => chosen.versions = vec![&TLS13],
            other => return Err(format!("unknown tls version {other:?}")),
        }
        if suites.is_empty() {
            return Ok((chosen, Vec::new()));
        }
        let mut provider = default_provider();
        let wanted: Vec<String> = suites
            .iter()
            .map(|suite| match suite.as_str() {
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
                    format!("{suite}_SHA256")
                }
                _ => suite.clone(),
            })
            .collect();
        let mut idle = Vec::new();
        for suite in &wanted {
            let offered = provider.cipher_suites.iter().any(|known| name(*known) == *suite);
            match offered {
                true => {}
                false if NEVER_OFFERED.contains(&suite.as_str()) => idle.push(suite.clone()),
                false => return Err(format!("Cipher suite {suite} not supported or doesn't exist")),
            }
        }
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted.contains(&name(*suite)));
        if provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            chosen.versions = vec![&TLS13];
        }
        chosen.provider = Arc::new(provider);
        Ok((chosen, idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(min: &str, suites: &[&str]) -> (Vec<String>, usize, Vec<String>) {
        let suites: Vec<String> = suites.iter().map(|&suite| suite.to_owned()).collect();
        let (chosen, idle) = Protection::new(min, &suites).unwrap();
        let of_12 = chosen.provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none());
        (of_12.map(|suite| name(*suite)).collect(), chosen.versions.len(), idle)
    }

    #[test]
    fn suites_of_tls_1_2_are_chosen_by_their_names() {
        let all = offered("", &[]);
        assert_eq!((all.0.len(), all.1), (6, 2));
        assert_eq!(offered("VersionTLS13", &[]).1, 1);
        let one = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let old = "TLS_RSA_WITH_AES_128_CBC_SHA";
        assert_eq!(offered("VersionTLS12", &[one, old]), (vec![one.to_owned()], 2, vec![old.to_owned()]));
        assert_eq!(offered("", &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).0.len(), 1);
        // What is left of it is TLS 1.3.
        assert_eq!(offered("", &[old]).1, 1);
    }

    #[test]
    fn curves_are_chosen_by_their_numbers() {
        let chosen = |curves: &[i32]| {
            let (chosen, idle) = Protection::default().with_curves(curves)?;
            Ok::<_, String>((chosen.provider.kx_groups.len(), idle))
        };
        assert_eq!(chosen(&[]), Ok((3, vec![])));
        assert_eq!(chosen(&[24, 25, 4588]), Ok((1, vec![25, 4588])));
        assert!(chosen(&[25]).is_err(), "nobody could connect");
    }

    #[test]
    fn what_names_nothing_is_refused_in_upstreams_words() {
        let wrong = Protection::new("VersionTLS14", &[]).unwrap_err();
        assert_eq!(wrong, "unknown tls version \"VersionTLS14\"");
        let wrong = Protection::new("", &["TLS_NULL".to_owned()]).unwrap_err();
        assert_eq!(wrong, "Cipher suite TLS_NULL not supported or doesn't exist");
    }
}
