//! The small answers: lists of pods, one command and its output, checkpoints.

use std::time::Duration;

use http::Response;
use serde_json::{Value, json};

use super::{Body, Refusal, Server, full, json as answer};
use crate::pods::Handle;
use crate::pods::observed::{Instance, State};
use crate::pods::spec::PodExt;

/// What a path comes to when `enableDebuggingHandlers` is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debugging {
    /// It is answered all the same.
    No,
    /// It is said that it is off.
    Disabled,
    /// There is no such path.
    Missing,
}

/// Which of a path is meant for debugging.
pub fn debugging(parts: &[&str]) -> Debugging {
    match parts {
        ["run" | "exec" | "attach" | "portForward" | "containerLogs" | "runningpods" | "logs", ..]
        | ["debug", "pprof", ..] => Debugging::Disabled,
        ["configz" | "checkpoint" | "statusz" | "flagz" | "debug", ..] => Debugging::Missing,
        _ => Debugging::No,
    }
}

/// What is said of pages that are for debugging, where that is off.
pub const DISABLED: &str = "Debug endpoints are disabled.\n";

fn list(items: Vec<Value>) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// The pods that are bound to the node, with the status that is known here.
pub fn pods(server: &Server) -> Value {
    list(server.pods.list().into_iter().map(|handle| json!(handle.known())).collect())
}

/// Pods as the node has allocated resources to them, without their status: all of them, or one by its namespace and name.
pub fn allocated(server: &Server, parts: &[&str]) -> Result<Response<Body>, Refusal> {
    let all = server.pods.list().into_iter();
    match parts {
        [] => answer(&list(all.map(|handle| json!(handle.allocated())).collect())),
        [namespace, name] => {
            let mut found = all.filter(|handle| {
                let pod = handle.pod();
                pod.namespace() == *namespace && pod.name() == *name
            });
            let Some(handle) = found.next() else {
                return Err(Refusal::not_found(format!("pod {namespace}/{name} not found\n")));
            };
            answer(&json!(handle.allocated()))
        }
        _ => Err(Refusal::not_found("404 page not found\n")),
    }
}

/// What runs, as the runtime has it.
pub fn running_pods(server: &Server) -> Value {
    let pods = server.pods.list().into_iter().filter_map(|handle| {
        let observed = handle.observed.lock().clone();
        let running = observed.containers.iter().filter(|container| container.state == State::Running);
        let containers: Vec<Value> = running
            .map(|container| json!({"name": container.name, "image": container.image_id, "resources": {}}))
            .collect();
        let pod = handle.pod();
        (!containers.is_empty()).then(|| {
            json!({
                "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
                "spec": {"containers": containers}, "status": {},
            })
        })
    });
    list(pods.collect())
}

fn find(server: &Server, namespace: &str, name: &str) -> Result<std::sync::Arc<Handle>, Refusal> {
    server.pods.find(namespace, name).ok_or_else(|| Refusal::not_found("pod does not exist"))
}

fn running(handle: &Handle, container: &str) -> Option<Instance> {
    let observed = handle.observed.lock().clone();
    observed.instances(container).find(|instance| instance.state == State::Running).cloned()
}

/// `/run`: one command, whose whole output is the answer.
pub async fn run(
    server: &Server,
    (namespace, pod, rest): (&str, &str, &[&str]),
    query: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let handle = find(server, namespace, pod)?;
    let container = rest.last().copied().unwrap_or_default();
    let instance = running(&handle, container)
        .ok_or_else(|| Refusal::internal(format!("container not found (\"{container}\")")))?;
    let command = query.iter().find(|(key, _)| key == "cmd").map(|(_, value)| value.as_str());
    let words = command.unwrap_or_default().split(' ').map(str::to_owned).collect();
    let limit = Duration::from_secs(120);
    let answer = server.shared.runtime.exec_sync(&instance.id, words, limit).await;
    let answer = answer.map_err(|status| Refusal::internal(status.message()))?;
    if answer.exit_code != 0 {
        let words = command.unwrap_or_default();
        return Err(Refusal::internal(format!("command '{words}' exited with {}", answer.exit_code)));
    }
    Ok(Response::new(full([answer.stdout, answer.stderr].concat())))
}

/// `/checkpoint`: what the runtime makes of it.
pub async fn checkpoint(
    server: &Server,
    (namespace, name, container): (&str, &str, &str),
) -> Result<Response<Body>, Refusal> {
    let handle = find(server, namespace, name)?;
    let pod = handle.pod();
    if pod.container(container).is_none() {
        return Err(Refusal::not_found(format!("container {container} does not exist")));
    }
    let failed = |why: &dyn std::fmt::Display| {
        Refusal::internal(format!("checkpointing of {namespace}/{name}/{container} failed ({why})"))
    };
    let instance =
        running(&handle, container).ok_or_else(|| failed(&format!("container {container} does not run")))?;
    let folder = server.shared.config.root_dir.join("checkpoints");
    std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
    let at = server.shared.config.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let path = folder.join(format!("checkpoint-{name}_{namespace}-{container}-{at}.tar"));
    let path = path.display().to_string();
    server
        .shared
        .runtime
        .checkpoint(&instance.id, path.clone())
        .await
        .map_err(|status| failed(&status.message()))?;
    super::json(&json!({"items": [path]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_and_health_are_no_debugging() {
        use Debugging::{Disabled, Missing, No};
        for (path, wanted) in [
            ("exec", Disabled),
            ("logs", Disabled),
            ("pods", No),
            ("metrics", No),
            ("healthz", No),
            ("configz", Missing),
            ("statusz", Missing),
        ] {
            assert_eq!(debugging(&[path]), wanted, "{path}");
        }
        assert_eq!(debugging(&["debug", "pprof", "heap"]), Disabled);
        assert_eq!(debugging(&["debug", "flags", "v"]), Missing);
    }
}
