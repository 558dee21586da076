//! What a runtime is told of a pod that was connected. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Call;

/// The result of an ADD, in the configuration's version.
pub fn added(version: &str, outer: &str, call: &Call, ips: &[IpAddr]) -> Value {
    let says_family = version.starts_with("0.");
    let address = |ip: &IpAddr| {
        let (bits, family, gateway) = match ip {
            IpAddr::V4(_) => (32, "4", "169.254.1.1"),
            IpAddr::V6(_) => (128, "6", "fe80::1"),
        };
        let mut one = json!({"address": format!("{ip}/{bits}"), "gateway": gateway, "interface": 1});
        if let (true, Some(object)) = (says_family, one.as_object_mut()) {
            object.insert("version".into(), family.into());
        }
        one
    };
    let route = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}),
        IpAddr::V6(_) => json!({"dst": "::/0", "gw": "fe80::1"}),
    };
    json!({
        "cniVersion": version,
        "interfaces": [{"name": outer}, {"name": call.interface, "sandbox": call.netns}],
        "ips": ips.iter().map(address).collect::<Vec<_>>(),
        "routes": ips.iter().map(route).collect::<Vec<_>>(),
        "dns": {},
    })
}
