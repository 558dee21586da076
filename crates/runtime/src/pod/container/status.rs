//! What is told of a container, in the CRI's words.

use cri::v1::{
    ContainerResources, ContainerState as CriState, ContainerStatus, ContainerUser, ImageSpec,
    LinuxContainerUser, Signal,
};

use std::io;

use super::{Container, PodError};
use crate::pod::blocking;
use crate::state::{ContainerPhase, Exit};

/// Its `config.json`, for whoever looks into it; nothing once it has been cleared away.
pub async fn spec(container: &Container) -> Result<serde_json::Value, PodError> {
    let path = container.run_folder.join("config.json");
    blocking(move || match std::fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| PodError::Invalid(format!("config.json: {error}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(serde_json::Value::Null),
        Err(error) => Err(PodError::io("reading the container's config.json")(error)),
    })
    .await
}

impl Container {
    /// For `ContainerStatus`.
    pub fn status(&self) -> ContainerStatus {
        // Looked at once: one that ends meanwhile must not be told as one that ended without an exit.
        let state = self.state();
        let (told, exit) = told(&state.phase);
        let (uid, gid, groups) = state.user;
        ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: told as i32,
            created_at: state.created_at,
            started_at: exit.started_at,
            finished_at: exit.finished_at,
            exit_code: exit.code,
            image: self.config.image.clone().map(|spec| ImageSpec {
                image: if state.image_name.is_empty() { spec.image } else { state.image_name },
                ..spec
            }),
            image_ref: state.image_ref,
            reason: exit.reason,
            message: exit.message,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: state.log_path,
            resources: Some(ContainerResources { linux: self.resources.lock().clone(), windows: None }),
            image_id: state.image_id,
            user: Some(ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: i64::from(uid),
                    gid: i64::from(gid),
                    supplemental_groups: groups.into_iter().map(i64::from).collect(),
                }),
            }),
            stop_signal: cri_signal(state.stop_signal),
        }
    }

    /// For `ListContainers`.
    pub fn summary(&self) -> cri::v1::Container {
        let state = self.state();
        cri::v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: state.image_ref,
            state: told(&state.phase).0 as i32,
            created_at: state.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: state.image_id,
        }
    }
}

/// How a container is, in the CRI's words, and its times and exit as far as there are any.
fn told(phase: &ContainerPhase) -> (CriState, Exit) {
    let none = Exit { started_at: 0, finished_at: 0, code: 0, reason: String::new(), message: String::new() };
    match phase {
        ContainerPhase::Created | ContainerPhase::Starting => (CriState::ContainerCreated, none),
        ContainerPhase::Running { started_at, .. } => {
            (CriState::ContainerRunning, Exit { started_at: *started_at, ..none })
        }
        ContainerPhase::Exited(exit) => (CriState::ContainerExited, exit.clone()),
    }
}

/// The CRI numbers signals by name, in the alphabet's order.
pub(super) fn cri_signal(number: i32) -> i32 {
    let name = match number {
        34 => "SIGNAL_SIGRTMIN".to_owned(),
        35..=49 => format!("SIGNAL_SIGRTMINPLUS{}", number - 34),
        50..=63 => format!("SIGNAL_SIGRTMAXMINUS{}", 64 - number),
        64 => "SIGNAL_SIGRTMAX".to_owned(),
        number => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => format!("SIGNAL_{}", signal.as_str()),
            Err(_) => String::new(),
        },
    };
    Signal::from_str_name(&name).unwrap_or_default() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_and_its_exit_are_told_together() {
        let exit =
            Exit { started_at: 1, finished_at: 2, code: 3, reason: "Error".into(), message: String::new() };
        assert_eq!(told(&ContainerPhase::Exited(exit.clone())), (CriState::ContainerExited, exit));
        let process = crate::sys::process::Process { pid: 1, start_time: 2, boot: "b".into() };
        let (state, running) = told(&ContainerPhase::Running { process, started_at: 4 });
        assert_eq!((state, running.started_at, running.finished_at), (CriState::ContainerRunning, 4, 0));
        assert_eq!(told(&ContainerPhase::Starting).0, CriState::ContainerCreated);
    }
}
