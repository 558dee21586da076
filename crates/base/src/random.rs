use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Where a component gets its randomness from.
pub trait Random: Send + Sync + 'static {
    /// Fills `buf` with random bytes.
    fn fill(&self, buf: &mut [u8]);

    /// A number in `0..bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        let mut buf = [0u8; 8];
        self.fill(&mut buf);
        // The bias of the modulus is below 2⁻³² for every bound used here.
        u64::from_le_bytes(buf).checked_rem(bound).unwrap_or(0)
    }

    /// `len` characters of the alphabet that Kubernetes uses for generated names
    /// (no vowels and nothing that reads like one, as `k8s.io/apimachinery/pkg/util/rand`).
    fn suffix(&self, len: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..len)
            .filter_map(|_| ALPHABET.get(self.below(ALPHABET.len() as u64) as usize))
            .map(|&b| char::from(b))
            .collect()
    }

    /// A random UUID (version 4).
    fn uuid(&self) -> String {
        let mut bytes = [0u8; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

/// Randomness that many owners hold.
pub type SharedRandom = Arc<dyn Random>;

/// The thread's cryptographically secure generator.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl SystemRandom {
    /// The generator, shared.
    pub fn shared() -> SharedRandom {
        Arc::new(Self)
    }
}

impl Random for SystemRandom {
    fn fill(&self, buf: &mut [u8]) {
        rand::rng().fill_bytes(buf);
    }
}

/// A generator that repeats itself for the same seed: for tests.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// A generator of the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buf: &mut [u8]) {
        self.0.lock().fill_bytes(buf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_a_suffix_has_no_vowels() {
        let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
        let suffix = a.suffix(40);
        assert_eq!(suffix, b.suffix(40));
        assert_eq!(suffix.len(), 40);
        assert!(!suffix.contains(['a', 'e', 'i', 'o', 'u', 'y', '0', '1', '3']));
        assert_ne!(a.uuid(), a.uuid());
        assert_eq!(a.below(0), 0);
    }
}
