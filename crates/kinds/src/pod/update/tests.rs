//! Changes of pods, with the words of a kube-apiserver for those that it refused.

use schema::Object;

use crate::field::Errors;
use crate::gates::{self, Gates};
use crate::rules::Part;

const OLD: &str = r#"{"metadata":{"name":"p","namespace":"d","generation":3},
    "spec":{"nodeName":"n1","activeDeadlineSeconds":100,"restartPolicy":"OnFailure",
        "tolerations":[{"key":"x","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}],
        "containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"1"}}}]},
    "status":{"phase":"Running","qosClass":"Burstable","observedGeneration":2,
        "conditions":[{"type":"Ready","status":"True","observedGeneration":2}],
        "containerStatuses":[{"name":"c","state":{"terminated":{"exitCode":0}}}]}}"#;

const GATED: &str = r#"{"metadata":{"name":"p","namespace":"d","generation":1},
    "spec":{"schedulingGates":[{"name":"g1"},{"name":"g2"}],"nodeSelector":{"a":"b"},
        "containers":[{"name":"c","image":"i"}]},"status":{"phase":"Pending","qosClass":"BestEffort"}}"#;

fn pod(json: &str) -> Object {
    let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
    let mut pod = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    (crate::pod::RULES.defaults)(&mut pod);
    pod
}

/// Merges `patch` into `old` and sends it to a part of the pod.
fn change(old: &str, part: Part, patch: &str) -> (Object, Vec<String>) {
    change_with(old, part, patch, Gates::default())
}

fn change_with(old: &str, part: Part, patch: &str, gates: Gates) -> (Object, Vec<String>) {
    let old = pod(old);
    let mut new = schema::patch::merge_patch(&old, patch.as_bytes()).unwrap().object;
    let rules = crate::pod::RULES;
    (rules.defaults)(&mut new);
    (rules.gated)(&mut new, Some(&old), part, gates);
    (rules.prepare_update)(&mut new, &old, part);
    let mut errors = Errors::new();
    (rules.validate_update)(&new, &old, part, &mut errors);
    (new, errors.0.iter().map(ToString::to_string).collect())
}

#[test]
fn what_may_change() {
    for (old, part, patch) in [
        (
            OLD,
            Part::Main,
            r#"{"spec":{"containers":[{"name":"c","image":"j","resources":{"requests":{"cpu":"1"}}}]}}"#,
        ),
        (OLD, Part::Main, r#"{"spec":{"activeDeadlineSeconds":50}}"#),
        (
            OLD,
            Part::Main,
            r#"{"spec":{"tolerations":[{"key":"x","operator":"Exists","effect":"NoExecute","tolerationSeconds":9},{"key":"y"}]}}"#,
        ),
        (GATED, Part::Main, r#"{"spec":{"schedulingGates":[{"name":"g2"}]}}"#),
        (GATED, Part::Main, r#"{"spec":{"nodeSelector":{"c":"d"}}}"#),
        (OLD, Part::Status, r#"{"status":{"phase":"Failed"},"spec":{"hostname":"ignored"}}"#),
        (
            OLD,
            Part::Other("resize"),
            r#"{"spec":{"hostname":"ignored","containers":[{"name":"c","image":"ignored","resources":{"requests":{"cpu":"2"}}}]}}"#,
        ),
        (
            OLD,
            Part::Other("ephemeralcontainers"),
            r#"{"spec":{"ephemeralContainers":[{"name":"e","image":"x"}]}}"#,
        ),
    ] {
        let (new, errors) = change(old, part, patch);
        assert_eq!(errors, Vec::<String>::new(), "{patch}");
        assert_eq!(new.at(&["spec", "hostname"]), None, "{patch}");
        let counts = i64::from(part != Part::Status);
        assert_eq!(new.generation(), pod(old).generation() + counts, "{patch}");
    }
}

#[test]
fn what_may_not_change() {
    let cases = [
        (
            OLD,
            Part::Main,
            r#"{"spec":{"containers":[{"name":"c","image":" j"}]}}"#,
            "spec.containers[0].image: Invalid value: \" j\": must not have leading or trailing whitespace",
        ),
        (
            OLD,
            Part::Main,
            r#"{"spec":{"containers":[]}}"#,
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            OLD,
            Part::Main,
            r#"{"spec":{"activeDeadlineSeconds":500}}"#,
            "spec.activeDeadlineSeconds: Invalid value: 500: must be less than or equal to previous value",
        ),
        (
            OLD,
            Part::Main,
            r#"{"spec":{"activeDeadlineSeconds":null}}"#,
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        ),
        (
            OLD,
            Part::Main,
            r#"{"spec":{"tolerations":[]}}"#,
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            GATED,
            Part::Main,
            r#"{"spec":{"schedulingGates":[{"name":"g3"}]}}"#,
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g3'",
        ),
        (
            GATED,
            Part::Main,
            r#"{"spec":{"nodeSelector":{"a":"c"}}}"#,
            "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        ),
        (
            OLD,
            Part::Main,
            r#"{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}}}"#,
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
        ),
        (
            OLD,
            Part::Status,
            r#"{"status":{"qosClass":"BestEffort"}}"#,
            "status.qosClass: Invalid value: \"BestEffort\": field is immutable",
        ),
        (
            OLD,
            Part::Status,
            r#"{"status":{"containerStatuses":[{"name":"c","state":{"running":{}}}]}}"#,
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
        ),
        (
            OLD,
            Part::Status,
            r#"{"status":{"podIPs":[{"ip":"1.2.3.4"},{"ip":"1.2.3.5"}]}}"#,
            "status.podIPs: Invalid value: [{\"IP\":\"1.2.3.4\"},{\"IP\":\"1.2.3.5\"}]: may specify no more than one IP for each IP family",
        ),
        (
            OLD,
            Part::Other("resize"),
            r#"{"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"memory":"1Gi"}}}]}}"#,
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            OLD,
            Part::Other("resize"),
            r#"{"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
        ),
    ];
    for (old, part, patch, wanted) in cases {
        let (_, errors) = change(old, part, patch);
        assert!(errors.iter().any(|error| error == wanted), "{patch}: {errors:#?}");
    }
}

#[test]
fn volumes_in_memory_get_other_sizes_where_a_cluster_has_that() {
    const OLD: &str = r#"{"metadata":{"name":"p","namespace":"d","generation":3},"spec":{"volumes":[
        {"name":"m","emptyDir":{"medium":"Memory","sizeLimit":"64Mi"}},{"name":"free","emptyDir":{"medium":"Memory"}},
        {"name":"disk","emptyDir":{"sizeLimit":"1Gi"}}],"containers":[{"name":"c","image":"i"}]}}"#;
    let resize = |gates: &str, m: &str, rest: &str| {
        let rest = if rest.is_empty() {
            r#",{"name":"free","emptyDir":{"medium":"Memory"}},{"name":"disk","emptyDir":{"sizeLimit":"2Gi"}}"#
        } else {
            rest
        };
        let patch = format!(r#"{{"spec":{{"volumes":[{{"name":"m","emptyDir":{m}}}{rest}]}}}}"#);
        let gates = Gates::new(&gates::parse(gates).unwrap()).unwrap();
        let (new, errors) = change_with(OLD, Part::Other("resize"), &patch, gates);
        let sizes = |volume: &schema::Value| {
            Some(volume.as_struct()?.str_at(&["emptyDir", "sizeLimit"]).unwrap_or("-").to_owned())
        };
        let sizes: Vec<String> =
            new.list_at(&["spec", "volumes"]).unwrap().iter().filter_map(sizes).collect();
        (sizes.join(" "), new.generation(), errors.join(";"))
    };
    let on = "InPlacePodVerticalScalingMemoryBackedVolumes=true";
    let larger = r#"{"medium":"Memory","sizeLimit":"128Mi"}"#;
    let ok = |sizes: &str, generation| (sizes.to_owned(), generation, String::new());
    // What is on a disk stays, as everything that is no resource does.
    assert_eq!(resize(on, larger, ""), ok("128Mi - 1Gi", 4));
    assert_eq!(resize("", larger, ""), ok("64Mi - 1Gi", 3));
    let refused = "spec: Forbidden: only cpu and memory resources are mutable";
    for (m, rest) in [
        (r#"{"medium":"Memory"}"#, ""),
        (larger, r#",{"name":"free","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},{"name":"disk"}"#),
        (larger, r#",{"name":"free","emptyDir":{"medium":"Memory"}}"#),
    ] {
        let (_, _, errors) = resize(on, m, rest);
        assert!(errors.contains(refused), "{m} {rest}: {errors}");
        assert_eq!(resize("", m, rest), ok("64Mi - 1Gi", 3));
    }
    let (_, _, errors) = resize(on, r#"{"medium":"Memory","sizeLimit":"-1"}"#, "");
    assert!(errors.contains("spec.volumes[0].emptyDir.sizeLimit"), "{errors}");
}

#[test]
fn a_change_that_may_not_be_is_told_line_by_line() {
    let (_, errors) = change(OLD, Part::Main, r#"{"spec":{"hostname":"x"}}"#);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("(allow it to be set to 1 if it was previously negative)\n@@ -"));
    assert!(errors[0].contains("\n- \"Hostname\": \"\",\n+ \"Hostname\": \"x\",\n"), "{}", errors[0]);
}

#[test]
fn a_status_keeps_what_its_writer_does_not_know_of() {
    let status = r#"{"status":{"observedGeneration":null,"qosClass":null,"conditions":[{"type":"Ready","status":"False"}]}}"#;
    let (new, errors) = change(OLD, Part::Status, status);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new.str_at(&["status", "qosClass"]), Some("Burstable"));
    assert_eq!(new.int_at(&["status", "observedGeneration"]), Some(2));
    let ready = new.list_at(&["status", "conditions"]).unwrap()[0].as_struct().unwrap();
    assert_eq!(ready.int_at(&["observedGeneration"]), Some(2));
}

#[test]
fn a_status_may_say_which_image_a_volume_is() {
    let gates = Gates::new(&gates::parse("ImageVolumeWithDigest=true").unwrap()).unwrap();
    let told = |image: &str| {
        let mount =
            format!(r#"{{"name":"v","mountPath":"/v","volumeStatus":{{"image":{{"imageRef":"{image}"}}}}}}"#);
        let status = format!(
            r#"{{"status":{{"containerStatuses":[{{"name":"c","state":{{"terminated":{{"exitCode":0}}}},"volumeMounts":[{mount}]}}]}}}}"#
        );
        change_with(OLD, Part::Status, &status, gates)
    };
    let (new, errors) = told("sha256:1");
    assert_eq!(errors, Vec::<String>::new());
    let first = new.list_at(&["status", "containerStatuses"]).unwrap()[0].as_struct().unwrap();
    let mount = first.list_at(&["volumeMounts"]).unwrap()[0].as_struct().unwrap();
    assert_eq!(mount.str_at(&["volumeStatus", "image", "imageRef"]), Some("sha256:1"));
    let at = "status.containerStatuses[0].volumeMounts[0].volumeStatus.imageVolumeStatus.imageRef";
    assert_eq!(told("").1, [format!("{at}: Required value: imageRef must not be empty")]);
    assert_eq!(told(&"x".repeat(257)).1, [format!("{at}: Too long: may not be more than 256 bytes")]);
}

#[test]
fn a_status_has_no_fields_of_features_that_are_off_nor_says_that_the_pod_goes() {
    let more = r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{
        "volumeHealth":[{"name":"v"}],"nodeAllocatableResourceClaimStatuses":[{"resourceClaimName":"c"}],
        "initContainerStatuses":[{"name":"i","volumeMounts":[
            {"name":"v","mountPath":"/v","volumeStatus":{"image":{"imageRef":"r"}}}]}]}}"#;
    let (new, _) = change(OLD, Part::Status, more);
    let [health, claims] =
        ["volumeHealth", "nodeAllocatableResourceClaimStatuses"].map(|f| new.at(&["status", f]));
    assert_eq!((health, claims, new.deletion_timestamp()), (None, None, None));
    let first = |pod: &Object| {
        pod.list_at(&["status", "initContainerStatuses"]).unwrap()[0].as_struct().unwrap().clone()
    };
    let mount = first(&new).list_at(&["volumeMounts"]).unwrap()[0].as_struct().unwrap().clone();
    assert_eq!((mount.str_at(&["mountPath"]), mount.at(&["volumeStatus"])), (Some("/v"), None));
    let had =
        OLD.replace("\"status\":{\"phase\"", "\"status\":{\"volumeHealth\":[{\"name\":\"v\"}],\"phase\"");
    let (new, _) = change(&had, Part::Status, more);
    assert!(new.at(&["status", "volumeHealth"]).is_some(), "what is told may be told on");
}
