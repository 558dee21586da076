//! A container that brings a `/dev` of its own, mostly the machine's.
//!
//! libcontainer makes devices and links in whatever is mounted at `/dev`, and replaces its `ptmx`: that must not be the
//! machine's. So it gets a file system of its own there, as ever, and what the container brings is mounted over it
//! afterwards, by the launcher as a hook, together with what stands below. Programs of other makers leave a `/dev` alone
//! that is bound.

use std::path::Path;

use serde_json::{Value, json};

use super::Surroundings;
use super::mounts::dev;

/// Puts ours in its place; the hook that mounts the container's, if it brings one.
pub fn plan(mounts: &mut Vec<Value>, around: &Surroundings) -> Option<Value> {
    let launcher = around.launcher.as_ref()?;
    let is_dev = |mount: &Value| {
        mount["type"] == "bind"
            && mount["destination"].as_str().is_some_and(|at| Path::new(at) == Path::new("/dev"))
    };
    let at = mounts.iter().position(is_dev)?;
    let brought = mounts.remove(at);
    mounts.insert(0, dev());
    let target = around.rootfs.join("dev");
    let mut words = vec![json!("knarr-launcher"), json!("over"), json!(target)];
    words.extend(brought.get("source").cloned());
    words.extend(brought.get("options").and_then(Value::as_array).into_iter().flatten().cloned());
    Some(json!({"path": launcher, "args": words}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_comes_over_ours() {
        let around = Surroundings {
            launcher: Some("/run/launcher".into()),
            rootfs: "/run/c/rootfs".into(),
            ..Surroundings::default()
        };
        let bind = |at: &str| json!({"destination": at, "type": "bind", "source": "/dev", "options": ["rbind", "rslave", "ro"]});
        let mut mounts = vec![json!({"destination": "/proc"}), bind("/host/dev"), bind("/dev/")];
        let hook = plan(&mut mounts, &around).unwrap();
        assert_eq!(mounts, [dev(), json!({"destination": "/proc"}), bind("/host/dev")]);
        let args = ["knarr-launcher", "over", "/run/c/rootfs/dev", "/dev", "rbind", "rslave", "ro"];
        assert_eq!(hook, json!({"path": "/run/launcher", "args": args}));
        assert_eq!(plan(&mut mounts, &around), None);
        let mut others = vec![bind("/dev")];
        assert_eq!(plan(&mut others, &Surroundings::default()), None, "another program sees to it");
        assert_eq!(others, [bind("/dev")]);
    }
}
