//! `--feature-gates`, of every component and of a whole cluster.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use kinds::gates::{self, Gates};
use serde::{Deserialize, Serialize};

/// What the flag says; it may be given more than once.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FeatureGates {
    /// Features to turn on or off: NAME=true,OTHER=false,…; also AllAlpha and AllBeta, of those that can be turned
    #[arg(long, value_name = "NAME=BOOL,…", value_parser = checked)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    feature_gates: Vec<String>,
}

fn checked(text: &str) -> Result<String, String> {
    Gates::new(&gates::parse(text)?).map_err(|wrong| wrong.join(", "))?;
    Ok(text.to_owned())
}

impl FeatureGates {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.feature_gates.is_empty()
    }

    /// What is said of each gate.
    ///
    /// # Errors
    /// When it is no list of gates, which a flag never is.
    pub fn said(&self) -> Result<BTreeMap<String, bool>> {
        match gates::parse(&self.feature_gates.join(",")) {
            Ok(said) => Ok(said),
            Err(why) => bail!("--feature-gates: {why}"),
        }
    }

    /// Which features are on.
    ///
    /// # Errors
    /// What cannot be.
    pub fn gates(&self) -> Result<Gates> {
        let said = self.said()?;
        match Gates::new(&said) {
            Ok(gates) => {
                Gates::kept(&said).iter().for_each(|kept| tracing::warn!("{kept}"));
                Ok(gates)
            }
            Err(wrong) => bail!("--feature-gates: {}", wrong.join(", ")),
        }
    }

    /// The same with what is said elsewhere over it.
    #[must_use]
    pub fn under(mut self, over: &Self) -> Self {
        self.feature_gates.extend(over.feature_gates.iter().cloned());
        self
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kinds::gates::Gate;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        features: FeatureGates,
    }

    #[test]
    fn the_flag_is_read_and_refused_in_upstreams_words() {
        let line = |words: &str| Line::try_parse_from(format!("k {words}").split_whitespace());
        let two = line(
            "--feature-gates EmptyDirVolumeMode=true --feature-gates AllBeta=false,EmptyDirVolumeMode=0",
        );
        let gates = two.unwrap().features.gates().unwrap();
        assert!(!gates.has(Gate::EmptyDirVolumeMode) && !gates.has(Gate::KubeletCrashLoopBackOffMax));
        for (words, told) in [
            ("--feature-gates X=true", "unrecognized feature gate: X"),
            ("--feature-gates NodeSwap", "missing bool value for NodeSwap"),
            (
                "--feature-gates=NodeSwap=false",
                "cannot set feature gate NodeSwap to false, feature is locked to true",
            ),
        ] {
            let error = line(words).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
