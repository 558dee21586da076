//! For which images that are there a pod has to show credentials (KEP-2535): `imagePullCredentialsVerificationPolicy`.
//! Pure.

use std::collections::BTreeSet;

use cri::Reference;

/// The policies, in upstream's order.
const POLICIES: [&str; 4] =
    ["NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"];

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verify {
    Never,
    /// For those that a kubelet pulled.
    #[default]
    Pulled,
    /// For all but some.
    Except {
        /// Images, without tag and digest.
        names: BTreeSet<String>,
        /// What the names of others begin with.
        prefixes: Vec<String>,
    },
    Always,
}

impl Verify {
    /// What a configuration says.
    ///
    /// # Errors
    /// What it cannot say, in upstream's words.
    pub fn new(policy: &str, list: &[String]) -> Result<Self, String> {
        if !POLICIES.contains(&policy) {
            let [one, two, three, four] = POLICIES;
            return Err(format!(
                "option {policy:?} specified for imagePullCredentialsVerificationPolicy. Valid options are {one:?}, {two:?}, {three:?} or {four:?}"
            ));
        }
        if !list.is_empty() && policy != "NeverVerifyAllowlistedImages" {
            return Err("can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\"".to_owned());
        }
        Ok(match policy {
            "NeverVerify" => Self::Never,
            "AlwaysVerify" => Self::Always,
            "NeverVerifyAllowlistedImages" => Self::except(list).map_err(|why| {
                format!("invalid image pattern in `preloadedImagesVerificationAllowlist`: {why}")
            })?,
            _ => Self::Pulled,
        })
    }

    fn except(list: &[String]) -> Result<Self, String> {
        let (mut names, mut prefixes) = (BTreeSet::new(), Vec::new());
        for pattern in list {
            if pattern.trim() != pattern {
                return Err(format!("leading/trailing spaces are not allowed: {pattern}"));
            }
            let prefix = pattern.strip_suffix('*').filter(|prefix| prefix.ends_with('/'));
            let rest = prefix.unwrap_or(pattern);
            if rest.is_empty() {
                return Err(format!("the supplied pattern is too short: {pattern}"));
            }
            if rest.contains('*') {
                return Err(format!(
                    "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
                ));
            }
            match prefix {
                Some("/") => return Err("at least registry hostname is required".to_owned()),
                Some(prefix) => prefixes.push(prefix.to_owned()),
                None => {
                    let parsed = pattern.parse::<Reference>();
                    parsed.map_err(|error| format!("failed to parse as an image name: {error}"))?;
                    if repository(pattern) != pattern {
                        return Err(format!(
                            "neither tag nor digest is accepted in an image reference: {pattern}"
                        ));
                    }
                    names.insert(pattern.clone());
                }
            }
        }
        Ok(Self::Except { names, prefixes })
    }

    /// Whether credentials are asked for, of an image by the name that a pod has for it.
    pub fn asks_for(&self, image: &str, was_pulled: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Pulled => was_pulled,
            Self::Except { names, prefixes } => {
                let name = repository(image);
                !names.contains(name) && !prefixes.iter().any(|prefix| name.starts_with(prefix))
            }
            Self::Always => true,
        }
    }
}

/// An image's name without tag and digest.
pub fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name.get(last..).and_then(|rest| rest.find(':')) {
        Some(colon) => name.get(..last + colon).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_say_who_is_asked() {
        let policy = |name: &str| Verify::new(name, &[]).unwrap();
        let asks = |policy: &Verify| (policy.asks_for("r.io/a:1", true), policy.asks_for("r.io/a:1", false));
        assert_eq!(asks(&policy("NeverVerify")), (false, false));
        assert_eq!(asks(&policy("NeverVerifyPreloadedImages")), (true, false));
        assert_eq!(policy("NeverVerifyPreloadedImages"), Verify::default());
        assert_eq!(asks(&policy("NeverVerifyAllowlistedImages")), (true, true));
        assert_eq!(asks(&policy("AlwaysVerify")), (true, true));
        let list = ["r.io:5000/team/*".to_owned(), "busybox".to_owned()];
        let some = Verify::new("NeverVerifyAllowlistedImages", &list).unwrap();
        for (image, asks) in [
            ("r.io:5000/team/a:1", false),
            ("r.io:5000/team/a/b@sha256:0", false),
            ("r.io:5000/teams/a", true),
            ("busybox:1", false),
            ("docker.io/library/busybox", true),
        ] {
            assert_eq!(some.asks_for(image, true), asks, "{image}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused_in_upstreams_words() {
        let refused = |policy: &str, list: &[&str]| {
            let list: Vec<String> = list.iter().map(|&text| text.to_owned()).collect();
            Verify::new(policy, &list).unwrap_err()
        };
        assert_eq!(
            refused("Sometimes", &[]),
            "option \"Sometimes\" specified for imagePullCredentialsVerificationPolicy. Valid options are \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\""
        );
        assert!(
            refused("AlwaysVerify", &["a"]).starts_with("can't set `preloadedImagesVerificationAllowlist`")
        );
        for (pattern, words) in [
            (" a", "leading/trailing spaces are not allowed:  a"),
            ("", "the supplied pattern is too short: "),
            ("a*", "only patterns ending with '/*' are allowed: a*"),
            ("*/a", "only patterns ending with '/*' are allowed: */a"),
            ("/*", "at least registry hostname is required"),
            ("r.io/a:1", "neither tag nor digest is accepted in an image reference: r.io/a:1"),
            ("A B", "failed to parse as an image name: "),
        ] {
            let error = refused("NeverVerifyAllowlistedImages", &[pattern]);
            assert!(error.contains(words), "{pattern}: {error}");
        }
    }

    #[test]
    fn tags_and_digests_are_not_part_of_a_repository() {
        for (image, name) in
            [("a", "a"), ("a:1", "a"), ("r:5000/a", "r:5000/a"), ("r:5000/a:1@sha256:0", "r:5000/a")]
        {
            assert_eq!(repository(image), name);
        }
    }
}
