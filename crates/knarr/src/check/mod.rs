//! What a machine must have to run nodes. [`facts`] looks; [`verdicts`] decides and is pure.

mod facts;

use anyhow::{Result, bail};
use serde::Serialize;

pub use facts::Facts;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Nodes run, with less.
    Warning,
    /// Nodes do not run.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: &'static str,
}

/// Controllers without which pods cannot be limited.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What the facts mean.
pub fn verdicts(facts: &Facts) -> Vec<Verdict> {
    let mut all = vec![
        tell("user", facts.root, State::Failed, user(facts), "run as root, or use --control-plane-only"),
        tell(
            "kernel",
            facts.kernel >= (4, 18),
            State::Failed,
            facts.release.clone(),
            "use Linux 4.18 or newer",
        ),
        cgroups(facts),
    ];
    for (name, tried, state, remedy) in [
        (
            "namespaces",
            &facts.namespaces,
            State::Failed,
            "enable CONFIG_NAMESPACES and its NET, PID, IPC and UTS parts",
        ),
        ("overlayfs", &facts.overlay, State::Failed, "load the kernel module overlay (modprobe overlay)"),
        ("veth", &facts.veth, State::Failed, "load the kernel module veth (modprobe veth)"),
        (
            "nftables",
            &facts.nftables,
            State::Failed,
            "load the kernel module nf_tables with its NAT parts (modprobe nf_tables nft_nat nft_masq)",
        ),
        (
            "seccomp",
            &facts.seccomp,
            State::Warning,
            "enable CONFIG_SECCOMP_FILTER: pods that ask for a profile are refused",
        ),
        (
            "oom score",
            &facts.oom_score,
            State::Warning,
            "give root CAP_SYS_RESOURCE: containers are not protected from the OOM killer",
        ),
    ] {
        let found = tried.clone().map_or_else(|why| why, |()| "works".to_owned());
        all.push(tell(name, tried.is_ok(), state, found, remedy));
    }
    let files = facts.open_files.to_string();
    all.push(tell(
        "open files",
        facts.open_files >= 65536,
        State::Warning,
        files,
        "raise the hard limit: ulimit -Hn 1048576",
    ));
    all
}

fn tell(name: &'static str, good: bool, otherwise: State, found: String, remedy: &'static str) -> Verdict {
    if good {
        Verdict { name, state: State::Ok, found, remedy: "" }
    } else {
        Verdict { name, state: otherwise, found, remedy }
    }
}

fn user(facts: &Facts) -> String {
    if facts.root { "root".to_owned() } else { "not root".to_owned() }
}

fn cgroups(facts: &Facts) -> Verdict {
    let missing: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| !facts.controllers.iter().any(|known| known == name)).collect();
    let remedy = "mount cgroup v2 at /sys/fs/cgroup, or the v1 controllers below it";
    let found = if missing.is_empty() {
        format!("v{} with {}", facts.cgroup_version, CONTROLLERS.join(", "))
    } else {
        format!("no controller {}", missing.join(", "))
    };
    tell("cgroups", missing.is_empty(), State::Failed, found, remedy)
}

/// Makes sure that this machine can run nodes.
///
/// # Errors
/// Everything that is missing, and what to do.
pub fn nodes_can_run() -> Result<()> {
    let failed: Vec<String> = verdicts(&Facts::gather())
        .into_iter()
        .filter(|verdict| verdict.state == State::Failed)
        .map(|verdict| format!("  {}: {}: {}", verdict.name, verdict.found, verdict.remedy))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run nodes:\n{}\n`knarr check` tells more", failed.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            root: true,
            kernel: (6, 1),
            release: "6.1.0".to_owned(),
            cgroup_version: 2,
            controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
            namespaces: Ok(()),
            overlay: Ok(()),
            veth: Ok(()),
            nftables: Ok(()),
            seccomp: Ok(()),
            oom_score: Ok(()),
            open_files: 1 << 20,
        }
    }

    fn states(facts: &Facts) -> Vec<(&'static str, State)> {
        let wrong = verdicts(facts).into_iter().filter(|verdict| verdict.state != State::Ok);
        wrong.map(|verdict| (verdict.name, verdict.state)).collect()
    }

    #[test]
    fn each_missing_thing_is_named_with_its_remedy() {
        assert_eq!(states(&good()), []);
        let no = || Err("Operation not supported".to_owned());
        for (facts, expected) in [
            (Facts { root: false, ..good() }, ("user", State::Failed)),
            (Facts { kernel: (4, 4), ..good() }, ("kernel", State::Failed)),
            (Facts { controllers: vec!["cpu".to_owned()], ..good() }, ("cgroups", State::Failed)),
            (Facts { nftables: no(), ..good() }, ("nftables", State::Failed)),
            (Facts { overlay: no(), ..good() }, ("overlayfs", State::Failed)),
            (Facts { seccomp: no(), ..good() }, ("seccomp", State::Warning)),
            (Facts { oom_score: no(), ..good() }, ("oom score", State::Warning)),
        ] {
            assert_eq!(states(&facts), [expected]);
            let verdict = verdicts(&facts).into_iter().find(|verdict| verdict.name == expected.0).unwrap();
            assert!(!verdict.remedy.is_empty(), "{expected:?}");
        }
        let found = verdicts(&Facts { controllers: vec!["cpu".to_owned()], ..good() });
        assert!(found.iter().any(|verdict| verdict.found == "no controller memory, pids"), "{found:?}");
    }
}
