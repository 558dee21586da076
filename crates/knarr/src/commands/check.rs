//! `knarr check`: what this machine lacks.

use anyhow::{Result, bail};
use clap::Args;

use super::Output;
use crate::check::{Facts, State, verdicts};

/// `knarr check`
#[derive(Debug, Args)]
pub struct Check {
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Check {
    /// Prints what was looked at; fails when nodes cannot run.
    pub fn run(self) -> Result<()> {
        let verdicts = verdicts(&Facts::gather());
        match self.output {
            Output::Json => say!("{}", serde_json::to_string_pretty(&verdicts)?),
            Output::Text => {
                for verdict in &verdicts {
                    let mark = match verdict.state {
                        State::Ok => "ok",
                        State::Warning => "warning",
                        State::Failed => "FAILED",
                    };
                    say!("{mark:<8} {:<12} {}", verdict.name, verdict.found);
                    if !verdict.remedy.is_empty() {
                        say!("{:<21} {}", "", verdict.remedy);
                    }
                }
            }
        }
        if verdicts.iter().any(|verdict| verdict.state == State::Failed) {
            bail!("this machine cannot run nodes");
        }
        Ok(())
    }
}
