//! What the labels of a namespace say.

use schema::Map;

use crate::field::{Errors, Path};

/// How much a pod may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Anything.
    Privileged,
    /// No known way to more rights.
    Baseline,
    /// What hardening asks for.
    Restricted,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.name() == text)
    }
}

/// The newest version that has rules of its own.
const NEWEST: u32 = 37;

/// A level as a version of Kubernetes had it; the newest, when none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The minor version, such as 34.
    pub version: Option<u32>,
}

impl LevelVersion {
    pub(super) fn minor(self) -> u32 {
        self.version.unwrap_or(NEWEST).min(NEWEST)
    }
}

impl std::fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
            None => write!(f, "{}:latest", self.level.name()),
        }
    }
}

/// What is refused, and what is warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Refused.
    pub enforce: LevelVersion,
    /// Warned of.
    pub warn: LevelVersion,
}

const PREFIX: &str = "pod-security.kubernetes.io/";

impl Policy {
    /// Reads the labels; what cannot be read is refused as if it were the strictest, and told.
    pub fn read(labels: Option<&Map>, errors: &mut Errors) -> Self {
        let privileged = LevelVersion { level: Level::Privileged, version: None };
        let mut policy = Self { enforce: privileged, warn: privileged };
        let Some(labels) = labels else { return policy };
        let label = |name: &str| labels.get_str(&format!("{PREFIX}{name}"));
        let level = |name: &str, errors: &mut Errors| {
            let text = label(name)?;
            let parsed = Level::parse(text);
            if parsed.is_none() {
                let path = Path::new("metadata.labels").key(&format!("{PREFIX}{name}"));
                errors.invalid(&path, text, "must be one of privileged, baseline, restricted");
            }
            Some(parsed)
        };
        let version = |name: &str, errors: &mut Errors| {
            let text = label(name)?;
            let minor = text.strip_prefix("v1.").filter(|minor| {
                minor.bytes().all(|byte| byte.is_ascii_digit()) && (*minor == "0" || !minor.starts_with('0'))
            });
            let parsed = minor.and_then(|minor| minor.parse().ok());
            if parsed.is_none() && text != "latest" {
                let path = Path::new("metadata.labels").key(&format!("{PREFIX}{name}"));
                errors.invalid(&path, text, "must be \"latest\" or \"v1.x\"");
            }
            Some(parsed)
        };
        let enforce = level("enforce", errors);
        if let Some(level) = enforce {
            policy.enforce.level = level.unwrap_or(Level::Restricted);
        }
        policy.enforce.version = version("enforce-version", errors).flatten();
        // Audit events carry no violations yet; what the labels say of them is checked all the same.
        let _ = (level("audit", errors), version("audit-version", errors));
        let warn = level("warn", errors);
        if let Some(level) = warn {
            policy.warn.level = level.unwrap_or(Level::Privileged);
        }
        let warn_version = version("warn-version", errors);
        policy.warn.version = warn_version.flatten();
        // Whoever makes a controller is told at once what would be refused of its pods.
        if warn.is_none() && enforce.flatten().is_some() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if warn_version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        policy
    }

    /// Whether anything goes, without a word.
    pub fn is_privileged(&self) -> bool {
        self.enforce.level == Level::Privileged && self.warn.level == Level::Privileged
    }
}
