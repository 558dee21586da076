//! Running one plugin's program.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

/// Why a plugin did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Its program is nowhere.
    #[error("failed to find plugin {name:?} in path {path:?}")]
    Absent {
        /// The program.
        name: String,
        /// Where it was looked for.
        path: Vec<PathBuf>,
    },
    /// It said why, with a code: <https://www.cni.dev/docs/spec/#error>.
    #[error("{message} (code {code})")]
    Refused {
        /// Which error.
        code: u64,
        /// What it said, details included.
        message: String,
    },
    /// It failed without saying why as the specification wants it.
    #[error("netplugin failed ({status}): {output:?}")]
    Failed {
        /// How it ended.
        status: String,
        /// What it wrote instead.
        output: String,
    },
    /// It did not end, and was killed with its children.
    #[error("it did not end within {0:?} and was killed")]
    Hung(Duration),
    /// It said that it succeeded, with something that is no result.
    #[error("its result cannot be used: {0}")]
    Result(String),
    /// It could not be run.
    #[error("{what}: {source}")]
    Io {
        /// Doing what.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl PluginError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// What a plugin is called with, besides its configuration.
#[derive(Debug, Clone, Default)]
pub struct Call<'a> {
    /// `ADD`, `DEL`, `CHECK`, `STATUS`, `GC`.
    pub command: &'static str,
    /// The sandbox.
    pub container: &'a str,
    /// Its namespace; none when it is gone.
    pub netns: &'a str,
    /// The interface in it.
    pub interface: &'a str,
    /// What `CNI_ARGS` is to be.
    pub args: String,
}

/// Where plugins are, and how long each may take.
#[derive(Debug, Clone)]
pub struct Programs {
    pub dirs: Vec<PathBuf>,
    pub timeout: Duration,
}

/// How often a program is tried that somebody is just writing.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

impl Programs {
    fn find(&self, name: &str) -> Result<PathBuf, PluginError> {
        let absent = || PluginError::Absent { name: name.to_owned(), path: self.dirs.clone() };
        if name.contains('/') {
            return Err(absent());
        }
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()).ok_or_else(absent)
    }

    /// Runs a plugin to its end. It reads its configuration from `stdin`, which the file is left with.
    ///
    /// # Errors
    /// What it said, or why it said nothing.
    pub async fn run(
        &self,
        plugin: &str,
        call: &Call<'_>,
        config: &Value,
        stdin: &mut File,
    ) -> Result<Option<Value>, PluginError> {
        let program = self.find(plugin)?;
        fill(stdin, config).map_err(PluginError::io("writing the plugin's configuration"))?;
        let path = std::env::join_paths(&self.dirs)
            .map_err(|e| PluginError::io("the folders of plugins")(io::Error::other(e)))?;
        let mut command = Command::new(&program);
        command
            .env("CNI_COMMAND", call.command)
            .env("CNI_PATH", path)
            .stdin(stdin.try_clone().map_err(PluginError::io("passing the configuration on"))?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for (key, value) in [
            ("CNI_CONTAINERID", call.container),
            ("CNI_NETNS", call.netns),
            ("CNI_IFNAME", call.interface),
            ("CNI_ARGS", &call.args),
        ] {
            command.env(key, value);
        }
        let child = start(&mut command, &program).await?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let Ok(output) = tokio::time::timeout(self.timeout, child.wait_with_output()).await else {
            if let Some(group) = group {
                // Its children hold what it held.
                if let Err(error) = killpg(group, Signal::SIGKILL) {
                    tracing::debug!(plugin, %error, "a plugin that hung is gone already");
                }
            }
            return Err(PluginError::Hung(self.timeout));
        };
        let output = output.map_err(PluginError::io(format!("running {}", program.display())))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.trim().is_empty() {
            tracing::debug!(plugin, command = call.command, stderr = said.trim(), "a plugin said");
        }
        answer(output.status, &output.stdout, &said)
    }
}

/// A file of configuration from its beginning to its end, as a program finds it that begins to read.
fn fill(file: &mut File, config: &Value) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(config.to_string().as_bytes())?;
    file.rewind()
}

async fn start(command: &mut Command, program: &Path) -> Result<tokio::process::Child, PluginError> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            other => return other.map_err(PluginError::io(format!("running {}", program.display()))),
        }
    }
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// What a plugin's end means.
fn answer(
    status: std::process::ExitStatus,
    stdout: &[u8],
    stderr: &str,
) -> Result<Option<Value>, PluginError> {
    if status.success() {
        if stdout.trim_ascii().is_empty() {
            return Ok(None);
        }
        return serde_json::from_slice(stdout).map(Some).map_err(|e| PluginError::Result(e.to_string()));
    }
    if let Ok(Refusal { code, msg, details }) = serde_json::from_slice(stdout)
        && !(msg.is_empty() && code == 0)
    {
        let message = if details.is_empty() { msg } else { format!("{msg}; {details}") };
        return Err(PluginError::Refused { code, message });
    }
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    let written = String::from_utf8_lossy(stdout);
    let output = if written.trim().is_empty() { stderr.trim() } else { written.trim() };
    Err(PluginError::Failed { status, output: output.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn programs(script: &str, timeout: Duration) -> (tempfile::TempDir, Programs) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let programs = Programs { dirs: vec!["/nowhere".into(), dir.path().to_owned()], timeout };
        (dir, programs)
    }

    async fn run(script: &str, timeout: Duration) -> Result<Option<Value>, PluginError> {
        let (_dir, programs) = programs(script, timeout);
        let call =
            Call { command: "ADD", container: "c", netns: "/n", interface: "eth0", args: "A=1".into() };
        let mut stdin = tempfile::tempfile().unwrap();
        let config = serde_json::json!({"name": "net"});
        programs.run("plugin", &call, &config, &mut stdin).await
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_plugin_gets_its_call_and_its_configuration() {
        let script = r#"printf '{"call":"%s","config":%s}' \
            "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS ${CNI_PATH%%:*}" "$(cat)""#;
        let answer = run(script, LONG).await.unwrap().unwrap();
        let call = "ADD c /n eth0 A=1 /nowhere";
        assert_eq!(answer, serde_json::json!({"call": call, "config": {"name": "net"}}));
        assert_eq!(run("true", LONG).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_a_plugin_says_of_its_failure_is_passed_on() {
        let said = |script: &'static str| async move { run(script, LONG).await.unwrap_err().to_string() };
        let script = r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"later","details":"no pool"}'; exit 1"#;
        assert_eq!(said(script).await, "later; no pool (code 11)");
        assert_eq!(said("echo oops >&2; exit 3").await, "netplugin failed (exit status 3): \"oops\"");
        assert_eq!(said("kill -9 $$").await, "netplugin failed (signal 9): \"\"");
        assert!(said("echo nonsense").await.starts_with("its result cannot be used"));
        let (_dir, programs) = programs("true", LONG);
        let mut stdin = tempfile::tempfile().unwrap();
        for name in ["absent", "../plugin"] {
            let missing = programs.run(name, &Call::default(), &Value::Null, &mut stdin).await;
            assert!(missing.unwrap_err().to_string().starts_with(&format!("failed to find plugin {name:?}")));
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        // Alive until the time is over, however slow the machine: it is not the script's end that is waited for.
        let script = format!("sleep 1000 & echo $! > {}; sleep 1000", pids.display());
        let error = run(&script, Duration::from_millis(500)).await.unwrap_err();
        assert!(matches!(error, PluginError::Hung(_)), "{error}");
        let Ok(pid) = std::fs::read_to_string(&pids) else { return };
        let stat = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let deadline = tokio::time::Instant::now() + LONG;
        // A killed child may wait for somebody to reap it.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(tokio::time::Instant::now() < deadline, "the plugin's child goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
