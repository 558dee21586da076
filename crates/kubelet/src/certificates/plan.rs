//! When a certificate is to be renewed. Pure.

use auth::pki::Holder;
use jiff::{SignedDuration, Timestamp};

/// What a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who shall sign it.
    pub signer: &'static str,
    /// What it is for, beside signing: `client auth` or `server auth`.
    pub usage: &'static str,
    /// The subject's CN.
    pub name: String,
    /// Its O.
    pub group: &'static str,
    /// DNS names and addresses.
    pub sans: Vec<String>,
}

impl Wanted {
    /// By which the kubelet of a node shows who it is.
    pub fn client(node: &str) -> Self {
        Self {
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usage: "client auth",
            name: format!("system:node:{node}"),
            group: "system:nodes",
            sans: Vec::new(),
        }
    }

    /// With which the kubelet of a node serves.
    pub fn serving(node: &str, sans: Vec<String>) -> Self {
        Self { signer: "kubernetes.io/kubelet-serving", usage: "server auth", sans, ..Self::client(node) }
    }

    /// Whether a certificate is for all that is wanted. It may be for more.
    pub fn is_met_by(&self, held: &Holder) -> bool {
        held.name == self.name
            && held.groups.iter().any(|group| group == self.group)
            && self.sans.iter().all(|san| held.sans.contains(san))
    }
}

/// When to ask for the next certificate: after 70 to 90 % of the life of the one that is held, by `share` of 0 to 1,
/// so that nodes that were made together do not come together. `None` is now: it is not what is wanted.
pub fn renew_at(held: &Holder, wanted: &Wanted, share: f64) -> Option<Timestamp> {
    if !wanted.is_met_by(held) {
        return None;
    }
    let life = held.not_after.duration_since(held.not_before).as_secs_f64();
    let part = SignedDuration::try_from_secs_f64(life * (0.7 + 0.2 * share.clamp(0.0, 1.0))).ok()?;
    held.not_before.checked_add(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(sans: &[&str]) -> Holder {
        let at = |second| Timestamp::from_second(second).unwrap();
        Holder {
            name: "system:node:a".to_owned(),
            groups: vec!["system:nodes".to_owned()],
            sans: sans.iter().map(|&san| san.to_owned()).collect(),
            not_before: at(1000),
            not_after: at(2000),
        }
    }

    #[test]
    fn a_certificate_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        let wanted = Wanted::client("a");
        let at = |share| renew_at(&held(&[]), &wanted, share).unwrap().as_second();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (1700, 1800, 1900));
    }

    #[test]
    fn one_that_is_not_what_is_wanted_is_renewed_at_once() {
        let serving = |sans: &[&str]| Wanted::serving("a", sans.iter().map(|&san| san.to_owned()).collect());
        assert!(renew_at(&held(&["a", "10.0.0.1"]), &serving(&["10.0.0.1"]), 0.0).is_some(), "more is fine");
        assert_eq!(renew_at(&held(&["10.0.0.1"]), &serving(&["10.0.0.1", "10.0.0.2"]), 0.0), None);
        assert_eq!(renew_at(&held(&[]), &Wanted::client("b"), 0.0), None, "another node's");
        let mut other = held(&[]);
        other.groups.clear();
        assert_eq!(renew_at(&other, &Wanted::client("a"), 0.0), None, "no node's");
    }
}
