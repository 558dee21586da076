//! How a command's end is told: a `Status` object, or text in the oldest protocols.

use serde_json::json;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It exited.
    Exited(i32),
    /// It could not be run, or its end is unknown.
    Failed(String),
}

impl Outcome {
    /// What travels on the error channel from `v4` on. Messages and reasons are upstream's.
    pub fn to_status(&self) -> Vec<u8> {
        let status = match self {
            Self::Exited(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exited(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(message) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": message}]},
                "code": 500,
            }),
        };
        status.to_string().into_bytes()
    }

    /// What travels there before `v4`: nothing for a success.
    pub fn to_text(&self) -> Vec<u8> {
        match self {
            Self::Exited(0) => Vec::new(),
            Self::Exited(code) => {
                format!("command terminated with non-zero exit code: exit status {code}").into_bytes()
            }
            Self::Failed(message) => message.clone().into_bytes(),
        }
    }

    /// Reads what a server sent on the error channel.
    pub fn from_status(bytes: &[u8]) -> Self {
        let Ok(status) = serde_json::from_slice::<serde_json::Value>(bytes) else {
            return Self::Failed(String::from_utf8_lossy(bytes).into_owned());
        };
        let text = |pointer: &str| status.pointer(pointer).and_then(|v| v.as_str());
        if text("/status") == Some("Success") {
            return Self::Exited(0);
        }
        if text("/reason") == Some("NonZeroExitCode") {
            let causes = status.pointer("/details/causes").and_then(|v| v.as_array());
            let code = causes
                .into_iter()
                .flatten()
                .filter(|cause| cause.get("reason").and_then(|r| r.as_str()) == Some("ExitCode"))
                .find_map(|cause| cause.get("message")?.as_str()?.parse().ok());
            if let Some(code) = code {
                return Self::Exited(code);
            }
        }
        Self::Failed(text("/message").unwrap_or("the server sent a status without a message").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_the_wire() {
        for outcome in [Outcome::Exited(0), Outcome::Exited(42)] {
            assert_eq!(Outcome::from_status(&outcome.to_status()), outcome);
        }
        let failed = Outcome::from_status(&Outcome::Failed("no such container".into()).to_status());
        assert_eq!(failed, Outcome::Failed("Internal error occurred: no such container".into()));
    }
}
