//! `knarr cni`, also as `knarr-cni`: the built-in network as a plugin of other container runtimes.

use std::ffi::OsString;
use std::io::{Read, Write};

use anyhow::{Context, Result};
use clap::Args;
use net::plugin::{Call, run};

/// What says that a runtime calls us.
const COMMAND: &str = "CNI_COMMAND";

/// `knarr cni`
#[derive(Debug, Args)]
pub struct Cni {}

#[expect(clippy::disallowed_methods, reason = "the environment is how plugins are called")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Whether a container runtime calls us: then there are no arguments, and the environment says what to do.
pub fn is_called(arguments: &[OsString]) -> bool {
    arguments.len() <= 1 && variable(COMMAND).is_some()
}

impl Cni {
    /// Does what the environment says, with the configuration on standard input; the result, or what went wrong, is on
    /// standard output.
    pub fn run(self) -> Result<()> {
        let text = |name: &str| variable(name).unwrap_or_default().to_string_lossy().into_owned();
        let call = Call {
            command: text(COMMAND),
            container: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            interface: text("CNI_IFNAME"),
        };
        let mut stdin = Vec::new();
        std::io::stdin().read_to_end(&mut stdin).context("reading the configuration")?;
        let (said, done) = match super::block_on(async { Ok(run(&call, &stdin).await) })? {
            Ok(result) => (result, Ok(())),
            Err(error) => (Some(error.to_value()), Err(error.into())),
        };
        if let Some(said) = said {
            writeln!(std::io::stdout(), "{said}").context("writing the result")?;
        }
        done
    }
}
