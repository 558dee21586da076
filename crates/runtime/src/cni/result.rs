//! What plugins answer. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::list::Version;

/// Brings a plugin's result into the version of its network, in which the next plugin wants to read it.
///
/// # Errors
/// When it is of a version that is not known here, or that cannot be translated.
pub fn in_version(mut result: Value, version: Version) -> Result<Value, String> {
    let Some(object) = result.as_object_mut() else { return Err("its result is no object".into()) };
    let said = object.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    let from = Version::parse(said).map_err(|error| format!("its result: {error}"))?;
    let is_list = |version| version >= Version::WITH_LIST;
    if from != version && is_list(from) != is_list(version) {
        return Err(format!("its result is of CNI version {from}, which cannot be told in {version}"));
    }
    for ip in object.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
        let address = ip.get("address").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(ip) = ip.as_object_mut() else { continue };
        if version >= Version::WITHOUT_FAMILY {
            ip.remove("version");
        } else {
            ip.insert("version".into(), if address.contains(':') { "6" } else { "4" }.into());
        }
    }
    object.insert("cniVersion".into(), json!(version.to_string()));
    Ok(result)
}

/// The addresses that a result gives to the pod's interface, IPv4 first as containerd has it.
pub fn addresses(result: &Value, interface: &str) -> Vec<IpAddr> {
    let listed = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let ours = |ip: &&Value| match ip.get("interface").and_then(Value::as_u64) {
        // Without an index it is the pod's: plugins need not list interfaces.
        None => true,
        Some(index) => {
            let found = result.get("interfaces").and_then(|all| all.get(usize::try_from(index).ok()?));
            found.and_then(|found| found.get("name")?.as_str()) == Some(interface)
        }
    };
    let listed = listed.filter(ours).filter_map(|ip| ip.get("address"));
    // So it was before 0.3.0.
    let old = ["ip4", "ip6"].into_iter().filter_map(|family| result.get(family)?.get("ip"));
    let mut found: Vec<IpAddr> = listed
        .chain(old)
        .filter_map(Value::as_str)
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn only_the_pods_interface_counts_and_ipv4_comes_first() {
        let result = json!({"cniVersion": "1.0.0",
            "interfaces": [{"name": "br0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [{"address": "fd00::2/64", "interface": 2}, {"address": "10.1.0.2/24", "interface": 2},
                    {"address": "10.1.0.1/24", "interface": 0}]});
        let ips: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(addresses(&result, "eth0"), ips);
        let bare = json!({"ips": [{"version": "4", "address": "10.1.0.9/24"}]});
        assert_eq!(addresses(&bare, "eth0"), ["10.1.0.9".parse::<IpAddr>().unwrap()]);
        let old = json!({"ip4": {"ip": "10.1.0.8/24"}});
        assert_eq!(addresses(&old, "eth0"), ["10.1.0.8".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn results_are_told_in_the_version_of_the_network() {
        let new = json!({"cniVersion": "1.0.0", "ips": [{"address": "fd00::2/64"}]});
        let old = json!({"cniVersion": "0.4.0", "ips": [{"version": "6", "address": "fd00::2/64"}]});
        assert_eq!(in_version(new.clone(), known("0.4.0")).unwrap(), old);
        assert_eq!(in_version(old, known("1.0.0")).unwrap(), new);
        assert!(in_version(new, known("0.2.0")).is_err());
        assert!(in_version(json!({"cniVersion": "7"}), known("1.0.0")).is_err());
    }
}
