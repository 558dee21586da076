//! What pods are called from inside.

use serde_json::json;

use super::super::config;
use super::pod;

#[test]
fn whoever_overrides_the_host_name_has_no_domain() {
    let named = |more: serde_json::Value| {
        let mut spec = json!({"subdomain": "s", "setHostnameAsFQDN": true, "containers": []});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        let pod = pod(spec);
        (config::hostname(&pod), config::domain(&pod, "c.local"))
    };
    let domain = Some("s.n.svc.c.local".to_owned());
    assert_eq!(named(json!({"hostname": "h"})), ("h".to_owned(), domain));
    assert_eq!(named(json!({"hostname": "h", "hostnameOverride": "o.x"})), ("o.x".to_owned(), None));
}
