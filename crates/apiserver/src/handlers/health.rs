//! `/healthz`, `/livez`, `/readyz`, `/version` and `/metrics`.

use http::Response;

use crate::body::{self, Body};
use crate::core::Core;
use crate::status::{ApiError, Result};

/// The version that clients see. Knarr's own is the build metadata.
pub fn version() -> serde_json::Value {
    let version = format!("{}+knarr{}", kinds::KUBERNETES_VERSION, env!("CARGO_PKG_VERSION"));
    serde_json::json!({
        "major": "1", "minor": "37", "gitVersion": version,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
        "emulationMajor": "1", "emulationMinor": "37", "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
    })
}

/// Answers a health path, with `?verbose` in upstream's layout.
///
/// # Errors
/// 404 for a check that does not exist, 500 when one fails.
pub async fn handle(core: &Core, path: &str, verbose: bool) -> Result<Response<Body>> {
    let mut segments = path.trim_matches('/').splitn(2, '/');
    let endpoint = segments.next().unwrap_or_default();
    let only = segments.next();
    let mut checks = vec![("ping", Ok(()))];
    if endpoint != "livez" || only == Some("etcd") {
        checks.push(("etcd", core.store.confirm().await.map(|_| ()).map_err(|error| error.to_string())));
    }
    // Without a store that is away a server lives on. One that is lost comes back only with another process.
    if let Some(why) = core.store.lost() {
        checks.push(("store", Err(why)));
    }
    if endpoint == "readyz" {
        let ready = !core.tasks.shutdown().is_triggered();
        checks.push(("shutdown", if ready { Ok(()) } else { Err("shutting down".to_owned()) }));
    }
    if let Some(only) = only {
        checks.retain(|(name, _)| *name == only);
        if checks.is_empty() {
            return Err(ApiError::no_such_path());
        }
    }
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let mut text = String::new();
    for (name, result) in &checks {
        match result {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                tracing::warn!(check = name, %why, "a health check failed");
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    match (failed, verbose) {
        (true, _) => Ok(body::text(500, format!("{text}{endpoint} check failed\n"))),
        (false, true) => Ok(body::text(200, format!("{text}{endpoint} check passed\n"))),
        (false, false) => Ok(body::text(200, "ok")),
    }
}
