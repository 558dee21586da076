//! Lifecycle hooks: what runs after a container started and before it stops.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

pub use super::check::Target;
use super::check::get;
use crate::Shared;

/// Runs a hook. What went wrong, as a message.
pub async fn run(
    shared: &Shared,
    hook: &LifecycleHandler,
    target: &Target<'_>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let answer = shared.runtime.exec_sync(target.id, command, limit).await;
        return match answer {
            Ok(answer) if answer.exit_code == 0 => Ok(()),
            Ok(answer) => Err(format!(
                "Exec lifecycle hook ([{shown}]) for Container {:?} failed - error: command exited with {}: {}",
                target.container.name,
                answer.exit_code,
                String::from_utf8_lossy(&answer.stderr).trim_end()
            )),
            Err(status) => Err(status.message().to_owned()),
        };
    }
    if let Some(http) = &hook.http_get {
        return get(http, target, "kube-lifecycle/1.37").await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
        return Ok(());
    }
    Err("unsupported handler type".to_owned())
}
