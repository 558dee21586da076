//! What is told of a container, in the CRI's words.

use cri::v1::{
    ContainerResources, ContainerState as CriState, ContainerStatus, ContainerUser, ImageSpec,
    LinuxContainerUser, Signal,
};

use super::Container;
use crate::state::{ContainerPhase, Exit};

impl Container {
    /// Its state in the CRI's words.
    pub fn cri_state(&self) -> CriState {
        match self.state().phase {
            ContainerPhase::Created | ContainerPhase::Starting => CriState::ContainerCreated,
            ContainerPhase::Running { .. } => CriState::ContainerRunning,
            ContainerPhase::Exited(_) => CriState::ContainerExited,
        }
    }

    /// For `ContainerStatus`.
    pub fn status(&self) -> ContainerStatus {
        let state = self.state();
        let exit = match &state.phase {
            ContainerPhase::Exited(exit) => exit.clone(),
            ContainerPhase::Running { started_at, .. } => Exit { started_at: *started_at, ..no_exit() },
            _ => no_exit(),
        };
        let (uid, gid, groups) = state.user;
        ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.cri_state() as i32,
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
            state: self.cri_state() as i32,
            created_at: state.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: state.image_id,
        }
    }
}

/// Of a container that has not ended.
fn no_exit() -> Exit {
    Exit { started_at: 0, finished_at: 0, code: 0, reason: String::new(), message: String::new() }
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
