//! Encryption at rest, as upstream's: a stored value says by its prefix how and with which key it was
//! encrypted, so values of either program are read by the other.

use base::SharedRandom;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const PREFIX: &[u8] = b"k8s:enc:";
const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;

/// One way to keep values.
pub enum Provider {
    /// AES-GCM, bound to the storage key: a value that was moved cannot be read.
    AesGcm(Box<Key<LessSafeKey>>),
    /// XSalsa20 and Poly1305, as NaCl's secretbox.
    Secretbox(Key<XSalsa20Poly1305>),
    /// As they are.
    Identity,
}

/// A key with the name that stands in the prefix.
pub struct Key<T> {
    prefix: Vec<u8>,
    key: T,
}

/// Why a value could not be encrypted or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// The key has the wrong length.
    #[error("the encryption key {name:?} has {found} bytes, and {needed} are needed")]
    KeyLength {
        /// The key's name.
        name: String,
        /// How long it is.
        found: usize,
        /// How long it may be.
        needed: &'static str,
    },
    /// No key decrypts it: it was damaged or moved, or its key is not the configured one of that name.
    #[error("the value of {key} cannot be decrypted: it is damaged, or the key of that name is another one")]
    Undecryptable {
        /// The storage key.
        key: String,
    },
    /// Its prefix names a key that is not configured.
    #[error("the value of {key} is encrypted with {prefix:?}, which is not configured: add that key")]
    UnknownKey {
        /// The storage key.
        key: String,
        /// What the value begins with.
        prefix: String,
    },
    /// It is not encrypted, and only encrypted values are accepted.
    #[error("the value of {key} is not encrypted, and `identity` is not configured")]
    NotEncrypted {
        /// The storage key.
        key: String,
    },
    /// The library failed.
    #[error("the value of {key} could not be encrypted")]
    Unencryptable {
        /// The storage key.
        key: String,
    },
}

impl Provider {
    /// AES-GCM with a key of 16 or 32 bytes.
    ///
    /// # Errors
    /// When the key has another length.
    pub fn aes_gcm(name: &str, key: &[u8]) -> Result<Self, EncryptionError> {
        let wrong =
            || EncryptionError::KeyLength { name: name.to_owned(), found: key.len(), needed: "16 or 32" };
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return Err(wrong()),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| wrong())?);
        Ok(Self::AesGcm(Box::new(Key { prefix: format!("k8s:enc:aesgcm:v1:{name}:").into_bytes(), key })))
    }

    /// Secretbox with a key of 32 bytes.
    ///
    /// # Errors
    /// When the key has another length.
    pub fn secretbox(name: &str, key: &[u8]) -> Result<Self, EncryptionError> {
        let wrong = |_| EncryptionError::KeyLength { name: name.to_owned(), found: key.len(), needed: "32" };
        let key = XSalsa20Poly1305::new_from_slice(key).map_err(wrong)?;
        Ok(Self::Secretbox(Key { prefix: format!("k8s:enc:secretbox:v1:{name}:").into_bytes(), key }))
    }

    fn prefix(&self) -> Option<&[u8]> {
        match self {
            Self::AesGcm(key) => Some(&key.prefix),
            Self::Secretbox(key) => Some(&key.prefix),
            Self::Identity => None,
        }
    }

    fn encrypt(&self, value: &[u8], key: &str, random: &SharedRandom) -> Option<Vec<u8>> {
        match self {
            Self::Identity => Some(value.to_vec()),
            Self::AesGcm(named) => {
                let Key { prefix, key: cipher } = &**named;
                let mut nonce = [0; GCM_NONCE];
                random.fill(&mut nonce);
                let mut out = [prefix.as_slice(), &nonce].concat();
                let mut sealed = value.to_vec();
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(key.as_bytes()), &mut sealed).ok()?;
                out.append(&mut sealed);
                Some(out)
            }
            Self::Secretbox(Key { prefix, key: cipher }) => {
                let mut nonce = [0; BOX_NONCE];
                random.fill(&mut nonce);
                let mut out = [prefix.as_slice(), &nonce].concat();
                out.append(&mut cipher.encrypt(&nonce.into(), value).ok()?);
                Some(out)
            }
        }
    }

    /// `sealed` is what follows the prefix.
    fn decrypt(&self, sealed: &[u8], key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Identity => Some(sealed.to_vec()),
            Self::AesGcm(named) => {
                let cipher = &named.key;
                let (nonce, sealed) = sealed.split_at_checked(GCM_NONCE)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let mut value = sealed.to_vec();
                let len = cipher.open_in_place(nonce, Aad::from(key.as_bytes()), &mut value).ok()?.len();
                value.truncate(len);
                Some(value)
            }
            Self::Secretbox(Key { key: cipher, .. }) => {
                let (nonce, sealed) = sealed.split_at_checked(BOX_NONCE)?;
                let nonce: [u8; BOX_NONCE] = nonce.try_into().ok()?;
                cipher.decrypt(&nonce.into(), sealed).ok()
            }
        }
    }
}

/// Writes with the first provider, and reads what any of them wrote.
pub struct Encryption {
    providers: Vec<Provider>,
    random: SharedRandom,
}

impl Encryption {
    /// Providers in the order of an EncryptionConfiguration. None at all means values as they are.
    pub fn new(providers: Vec<Provider>, random: SharedRandom) -> Self {
        Self { providers, random }
    }

    /// What to store for `value` under the storage key (`/registry/secrets/…`).
    ///
    /// # Errors
    /// When the value is too large for the cipher.
    pub fn seal(&self, value: &[u8], key: &str) -> Result<Vec<u8>, EncryptionError> {
        let first = self.providers.first().unwrap_or(&Provider::Identity);
        first
            .encrypt(value, key, &self.random)
            .ok_or_else(|| EncryptionError::Unencryptable { key: key.to_owned() })
    }

    /// The value of what is stored, and whether it should be written again because the first provider would
    /// now store it otherwise.
    ///
    /// # Errors
    /// When it cannot be read; it is never returned as it is, then.
    pub fn open(&self, stored: &[u8], key: &str) -> Result<(Vec<u8>, bool), EncryptionError> {
        if !stored.starts_with(PREFIX) {
            let position = self.providers.iter().position(|provider| matches!(provider, Provider::Identity));
            return match position {
                Some(position) => Ok((stored.to_vec(), position != 0)),
                None if self.providers.is_empty() => Ok((stored.to_vec(), false)),
                None => Err(EncryptionError::NotEncrypted { key: key.to_owned() }),
            };
        }
        let mut named = false;
        for (position, provider) in self.providers.iter().enumerate() {
            let Some(sealed) = provider.prefix().and_then(|prefix| stored.strip_prefix(prefix)) else {
                continue;
            };
            named = true;
            if let Some(value) = provider.decrypt(sealed, key) {
                return Ok((value, position != 0));
            }
        }
        let key = key.to_owned();
        Err(if named {
            EncryptionError::Undecryptable { key }
        } else {
            EncryptionError::UnknownKey { key, prefix: prefix_of(stored) }
        })
    }
}

/// `k8s:enc:<provider>:<version>:<key>:` of a value.
fn prefix_of(stored: &[u8]) -> String {
    let end = stored
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b':')
        .nth(4)
        .map_or(stored.len(), |(at, _)| at + 1);
    String::from_utf8_lossy(stored.get(..end.min(100)).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::SeededRandom;

    use super::*;

    fn encryption(providers: Vec<Provider>) -> Encryption {
        Encryption::new(providers, Arc::new(SeededRandom::new(3)))
    }

    fn gcm(name: &str, byte: u8) -> Provider {
        Provider::aes_gcm(name, &[byte; 32]).unwrap()
    }

    const KEY: &str = "/registry/secrets/a/b";

    #[test]
    fn a_value_is_read_by_whoever_has_its_key() {
        let old = encryption(vec![gcm("old", 1), Provider::Identity]);
        let stored = old.seal(b"secret", KEY).unwrap();
        assert!(
            stored.starts_with(b"k8s:enc:aesgcm:v1:old:") && !stored.windows(6).any(|part| part == b"secret")
        );
        assert_eq!(old.open(&stored, KEY), Ok((b"secret".to_vec(), false)));
        assert_ne!(old.seal(b"secret", KEY).unwrap(), stored, "each has a nonce of its own");
        let new = encryption(vec![
            Provider::secretbox("new", &[2; 32]).unwrap(),
            gcm("old", 1),
            Provider::Identity,
        ]);
        assert_eq!(new.open(&stored, KEY), Ok((b"secret".to_vec(), true)), "it should be written again");
        let rewritten = new.seal(b"secret", KEY).unwrap();
        assert!(rewritten.starts_with(b"k8s:enc:secretbox:v1:new:"));
        assert_eq!(new.open(&rewritten, KEY), Ok((b"secret".to_vec(), false)));
        assert_eq!(new.open(b"k8s\0plain", KEY), Ok((b"k8s\0plain".to_vec(), true)));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_error_that_says_why() {
        let with = encryption(vec![gcm("k", 1)]);
        let stored = with.seal(b"secret", KEY).unwrap();
        let undecryptable = Err(EncryptionError::Undecryptable { key: KEY.into() });
        assert_eq!(
            encryption(vec![gcm("k", 2)]).open(&stored, KEY),
            undecryptable,
            "another key of that name"
        );
        assert!(with.open(&stored, "/registry/secrets/a/c").is_err(), "it was moved");
        let mut damaged = stored.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(with.open(&damaged, KEY), undecryptable);
        assert_eq!(with.open(&stored[..25], KEY), undecryptable);
        let unknown = encryption(vec![gcm("other", 1), Provider::Identity]).open(&stored, KEY);
        assert_eq!(
            unknown,
            Err(EncryptionError::UnknownKey { key: KEY.into(), prefix: "k8s:enc:aesgcm:v1:k:".into() })
        );
        assert_eq!(with.open(b"plain", KEY), Err(EncryptionError::NotEncrypted { key: KEY.into() }));
        assert!(Provider::aes_gcm("k", &[0; 24]).is_err() && Provider::secretbox("k", &[0; 16]).is_err());
    }

    /// NaCl's own test vector, which every secretbox must open.
    #[test]
    fn the_vector_of_nacl_opens() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let sealed = hex(concat!(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a",
            "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae",
            "90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74",
            "e355a5"
        ));
        let stored = [b"k8s:enc:secretbox:v1:k:".as_slice(), &nonce, &sealed].concat();
        let opened = encryption(vec![Provider::secretbox("k", &key).unwrap()]).open(&stored, KEY).unwrap().0;
        assert_eq!((opened.len(), opened[..4].to_vec()), (131, hex("be075fc5")));
    }
}
