//! One component as a process of its own, under its upstream name and with the upstream flags that people set.
//!
//! Each is a client of any API server, ours or upstream's, through a kubeconfig; the API server itself works on an
//! etcd, or on a store of its own.

pub mod apiserver;
pub mod controller_manager;
pub mod credentials;
pub mod elect;
pub mod kubelet;
pub mod runtime;
pub mod scheduler;

use std::path::Path;
use std::time::Duration;

use ::kubelet::LogFormat;
use anyhow::{Context, Result, bail};
use base::Shutdown;

/// How much a component says, as upstream's flags have it.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Logging {
    /// How much is logged: 0 to 3 what matters, 4 and 5 more, from 6 on everything; KNARR_LOG says it more exactly
    #[arg(short, long, value_name = "LEVEL")]
    pub v: Option<i32>,
    /// The form of what is logged: text or json [default: text]
    #[arg(long, value_parser = ["text", "json"])]
    pub logging_format: Option<String>,
}

impl Logging {
    /// The form, if it was given.
    pub fn format(&self) -> Option<LogFormat> {
        let given = self.logging_format.as_deref()?;
        Some(if given == "json" { LogFormat::Json } else { LogFormat::Text })
    }
}

/// Reads a kubeconfig and connects.
///
/// # Errors
/// When it cannot be read, or makes no sense.
pub async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let text = read(kubeconfig)?;
    client::connect::kubeconfig(&text).await.with_context(|| format!("using {}", kubeconfig.display()))
}

/// Reads a file that a flag names.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Parses a duration as Go writes it: `15s`, `1m30s`, `250ms`.
///
/// # Errors
/// When it is none.
pub fn go_duration(text: &str) -> Result<Duration, String> {
    let unreadable = || format!("{text:?} is no duration such as 15s or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(unreadable)?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| unreadable())?;
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let seconds = match unit {
            "ms" => number / 1000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(unreadable()),
        };
        total += Duration::try_from_secs_f64(seconds).map_err(|_| unreadable())?;
        rest = after;
    }
    if text.is_empty() { Err(unreadable()) } else { Ok(total) }
}

/// Returns when the process is told to end; an error when a part that the rest depends on has stopped.
///
/// # Errors
/// When signals cannot be heard, or `shutdown` came from within.
pub async fn wait_for_end(shutdown: &Shutdown) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        () = shutdown.wait() => bail!("a part that the rest depends on has stopped: see the log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        assert_eq!(go_duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(go_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(go_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(go_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "15", "s", "1x", "1m-2s"] {
            assert!(go_duration(wrong).is_err(), "{wrong}");
        }
    }
}
