//! The `loopback` plugin, which containerd and CRI-O call for every pod before any network's.

use std::path::Path;

use serde_json::{Value, json};

use super::{Call, PluginError, Result};
use crate::link::Links;
use crate::namespace;

/// Carries a call out; the result is in the configuration's version.
pub async fn run(call: &Call, version: &str) -> Result<Option<Value>> {
    match call.command.as_str() {
        "ADD" => {
            if call.netns.is_empty() {
                return Err(PluginError::Environment("CNI_NETNS".into()));
            }
            namespace::run_in(Path::new(&call.netns), || async { Links::open()?.up("lo").await }).await?;
            Ok(Some(added(version, &call.netns)))
        }
        // It ends with the pod's namespace.
        "DEL" | "CHECK" | "STATUS" | "GC" => Ok(None),
        other => Err(PluginError::Environment(format!("CNI_COMMAND {other:?} is not known"))),
    }
}

fn added(version: &str, netns: &str) -> Value {
    let mut ip = json!({"address": "127.0.0.1/8", "interface": 0});
    if let (true, Some(ip)) = (version.starts_with("0."), ip.as_object_mut()) {
        ip.insert("version".into(), "4".into());
    }
    json!({
        "cniVersion": version,
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": netns}],
        "ips": [ip],
        "dns": {},
    })
}
