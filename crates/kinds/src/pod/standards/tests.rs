use schema::Object;

use super::{Level, LevelVersion, Policy, Subject, violations};
use crate::field::Errors;

fn judge(spec: &str, level: Level, version: Option<u32>) -> Option<String> {
    let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
    let json = format!("{{\"spec\":{spec}}}");
    let pod: Object = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    let subject = Subject { spec: pod.struct_at(&["spec"]).unwrap(), annotations: pod.annotations() };
    violations(subject, LevelVersion { level, version })
}

const PLAIN: &str = r#"{"containers":[{"name":"a","image":"i"}]}"#;
const LOUD: &str = r#"{"hostNetwork":true,"hostPID":true,
    "securityContext":{"sysctls":[{"name":"kernel.msgmax"},{"name":"net.ipv4.tcp_rmem"}],"seccompProfile":{"type":"Unconfined"}},
    "volumes":[{"name":"v","hostPath":{"path":"/"}},{"name":"n","nfs":{"server":"s","path":"/"}}],
    "initContainers":[{"name":"i","image":"i","ports":[{"containerPort":1,"hostPort":80}]}],
    "containers":[{"name":"a","image":"i","securityContext":{"privileged":true,"procMount":"Unmasked","capabilities":{"add":["SYS_ADMIN","CHOWN"]}}}]}"#;

#[test]
fn pods_are_refused_in_upstreams_words() {
    assert_eq!(judge(LOUD, Level::Privileged, None), None);
    assert_eq!(judge(PLAIN, Level::Baseline, None), None);
    assert_eq!(
        judge(PLAIN, Level::Restricted, None).as_deref(),
        Some(
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        )
    );
    assert_eq!(
        judge(LOUD, Level::Baseline, None).as_deref(),
        Some(
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume \"v\"), hostPort (container \"i\" uses hostPort 80), privileged (container \"a\" must not set securityContext.privileged=true), procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\"), seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\"), forbidden sysctls (kernel.msgmax)"
        )
    );
    let restricted = judge(LOUD, Level::Restricted, None).unwrap();
    assert!(
        restricted.contains(
            "restricted volume types (volumes \"v\", \"n\" use restricted volume types \"hostPath\", \"nfs\")"
        ),
        "{restricted}"
    );
}

#[test]
fn older_versions_judge_as_they_did() {
    let sysctl = r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.tcp_rmem"}]},"containers":[]}"#;
    assert_eq!(judge(sysctl, Level::Baseline, Some(32)), None);
    assert_eq!(
        judge(sysctl, Level::Baseline, Some(31)).as_deref(),
        Some("forbidden sysctls (net.ipv4.tcp_rmem)")
    );
    let users = r#"{"hostUsers":false,"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}},
        "containers":[{"name":"a","image":"i","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"runAsUser":0}}]}"#;
    assert_eq!(judge(users, Level::Restricted, None), None);
    assert!(judge(users, Level::Restricted, Some(34)).unwrap().contains("runAsUser=0"));
}

#[test]
fn labels_of_a_namespace() {
    let read = |labels: &[(&str, &str)]| {
        let mut map = schema::Map::new();
        for (name, value) in labels {
            map.insert(format!("pod-security.kubernetes.io/{name}"), *value);
        }
        let mut errors = Errors::new();
        let policy = Policy::read(Some(&map), &mut errors);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        (policy.enforce.to_string(), policy.warn.to_string(), texts.join("; "))
    };
    let told =
        |enforce: &str, warn: &str, errors: &str| (enforce.to_owned(), warn.to_owned(), errors.to_owned());
    assert_eq!(read(&[]), told("privileged:latest", "privileged:latest", ""));
    assert_eq!(
        read(&[("enforce", "baseline"), ("enforce-version", "v1.30")]),
        told("baseline:v1.30", "baseline:v1.30", "")
    );
    assert_eq!(
        read(&[("enforce", "baseline"), ("warn", "restricted")]),
        told("baseline:latest", "restricted:latest", "")
    );
    assert_eq!(
        read(&[("enforce", "x"), ("warn-version", "1.2")]),
        told(
            "restricted:latest",
            "privileged:latest",
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted; metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\""
        )
    );
}
