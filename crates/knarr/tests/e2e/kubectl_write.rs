//! `apply`, `diff`, `edit`, `patch`, `replace` and `delete`.

use crate::cluster::Cluster;

const WEB: &str = include_str!("manifests/web.yaml");

fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: conf}}\ndata: {data}\n")
}

#[test]
fn apply_creates_configures_and_takes_away() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.write("conf.yaml", &config("{a: '1', b: '2'}"));
    cluster.says("apply -f conf.yaml", &["configmap/conf created"]);
    cluster.says("apply -f conf.yaml", &["configmap/conf unchanged"]);
    // What somebody else added stays; what is no longer in the file goes.
    cluster.k(r#"patch configmap conf -p '{"data":{"other":"x"}}'"#);
    cluster.write("conf.yaml", &config("{a: '1'}"));
    cluster.says("apply -f conf.yaml", &["configmap/conf configured"]);
    assert_eq!(cluster.k("get configmap conf -o jsonpath={.data}"), r#"{"a":"1","other":"x"}"#);

    // Server-side apply is not served yet, and says so.
    let told = "Server-side apply not available on the server";
    cluster.refuses("apply --server-side -f conf.yaml", told);

    cluster.write("typo.yaml", &WEB.replace("replicas", "replica"));
    cluster.refuses("apply -f typo.yaml", r#"Error from server (BadRequest): error when creating "typo.yaml": Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica""#);
    cluster.says(
        "apply -f typo.yaml --validate=warn --dry-run=server",
        &["Warning: unknown field \"spec.replica\"", "deployment.apps/web created (server dry run)"],
    );
    cluster.says("apply -f typo.yaml --dry-run=client", &["deployment.apps/web created (dry run)"]);
    cluster.refuses("get deployment web", "NotFound");

    cluster.write("dir/web.yaml", WEB);
    cluster.write("dir/conf.yaml", &config("{a: '2'}"));
    cluster.says("apply -f dir", &["configmap/conf configured", "deployment.apps/web created"]);
    assert_eq!(cluster.fed("apply -f -", WEB), "deployment.apps/web unchanged\n");
    cluster.write(
        "kustom/kustomization.yaml",
        "namePrefix: my-\nresources: [conf.yaml]\nconfigMapGenerator: [{name: made, literals: [x=y]}]\n",
    );
    cluster.write("kustom/conf.yaml", &config("{a: '3'}"));
    cluster.says("apply -k kustom", &["configmap/my-conf created", "configmap/my-made-"]);

    assert_eq!(cluster.k("diff -f dir"), "");
    cluster.write("dir/web.yaml", &WEB.replace("nginx:1", "nginx:2"));
    cluster.exits(
        "diff -f dir",
        1,
        &["\n-        image: nginx:1\n+        image: nginx:2\n", "\n-  generation: 1\n+  generation: 2\n"],
    );
    cluster.says(
        "apply -f dir --dry-run=server -o jsonpath='{.items[*].spec.template.spec.containers[0].image}'",
        &["nginx:2"],
    );
    assert_eq!(cluster.k("get deployment web -o jsonpath={..image}"), "nginx:1");
    // Environment variables are merged by name.
    cluster.write("dir/web.yaml", &WEB.replace(r#"{name: A, value: "1"}"#, r#"{name: B, value: "2"}"#));
    cluster.says("apply -f dir", &["deployment.apps/web configured", "configmap/conf unchanged"]);
    assert_eq!(
        cluster.k("get deployment web -o jsonpath='{.spec.template.spec.containers[0].env}'"),
        r#"[{"name":"B","value":"2"}]"#
    );
    cluster.write("bad.yaml", &WEB.replace("app: web}}\n  template", "app: other}}\n  template"));
    cluster.refuses("apply -f bad.yaml", "The Deployment \"web\" is invalid: ");
    cluster.says("delete -k kustom", &["configmap \"my-conf\" deleted"]);
    cluster.says("delete -f dir", &["configmap \"conf\" deleted", "deployment.apps \"web\" deleted"]);
}

#[test]
fn edit_patch_and_replace_change_what_they_should() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.write("web.yaml", WEB);
    cluster.k("apply -f web.yaml");
    let edit = |expression: &str| {
        let editor = cluster.write_script("editor", &format!("#!/bin/sh\nsed -i '{expression}' \"$1\"\n"));
        let output =
            cluster.command().env("EDITOR", editor).args(["edit", "deployment", "web"]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(edit("s/replicas: 2/replicas: 3/"), (Some(0), "deployment.apps/web edited\n".to_owned()));
    assert_eq!(cluster.k("get deployment web -o jsonpath={.spec.replicas}"), "3");
    assert_eq!(edit("s/nothing/else/"), (Some(0), "Edit cancelled, no changes made.\n".to_owned()));
    let (code, said) = edit("s/replicas: 3/replicas: -3/");
    assert!(code == Some(1) && said.contains("error: deployments.apps \"web\" is invalid"), "{said}");

    let patch = |line: &str| format!("patch deployment web {line}");
    let patched = |line: &str| cluster.says(&patch(line), &["deployment.apps/web patched"]);
    let refused = |line: &str, why: &str| cluster.refuses(&patch(line), why);
    patched(r#"-p '{"spec":{"replicas":1}}'"#);
    cluster.says(&patch(r#"-p '{"spec":{"replicas":1}}'"#), &["deployment.apps/web patched (no change)"]);
    patched(
        r#"--type=json -p '[{"op":"test","path":"/spec/replicas","value":1},{"op":"replace","path":"/spec/replicas","value":2}]'"#,
    );
    patched(r#"--type=merge -p '{"metadata":{"labels":{"app":null,"x":"y"}}}'"#);
    assert_eq!(cluster.k("get deployment web -o jsonpath={.metadata.labels}"), r#"{"x":"y"}"#);
    patched(r#"-p '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox"}]}}}}'"#);
    assert_eq!(
        cluster.k("get deployment web -o jsonpath='{.spec.template.spec.containers[*].name}'"),
        "side nginx"
    );
    patched(r#"-p '{"spec":{"template":{"spec":{"containers":[{"$patch":"delete","name":"side"}]}}}}'"#);
    assert_eq!(
        cluster.k("get deployment web -o jsonpath='{.spec.template.spec.containers[*].name}'"),
        "nginx"
    );
    cluster.says(
        &patch(r#"--subresource=scale --type=merge -p '{"spec":{"replicas":5}}'"#),
        &["scale.autoscaling/web patched"],
    );
    refused(
        r#"--type=json -p '[{"op":"replace","path":"/spec/no/x","value":2}]'"#,
        "The request is invalid: the server rejected our request due to an error in our request",
    );
    refused(r#"--type=json -p '{}'"#, "cannot unmarshal object into Go value of type");
    refused(r#"-p '{"spec":{"replicas":"x"}}'"#, r#"patch: Invalid value: "map[spec:map[replicas:x]]":"#);
    refused(r#"--type=merge -p '{"spec":{"replicas":"x"}}'"#, "patch: Invalid value: ");
    refused(r#"-p '{"spec":{"selector":{"matchLabels":{"a":"b"}}}}'"#, "field is immutable");
    refused("-p '{'", "unexpected end of JSON input");
    cluster.refuses("patch deployment nope -p '{}'", "deployments.apps \"nope\" not found");
    cluster.says(&patch(r#"-p '{"spec":{"replcas":1}}'"#), &["Warning: unknown field \"spec.replcas\""]);

    cluster.write("conf.yaml", &config("{a: '1'}"));
    cluster.refuses("replace -f conf.yaml", "configmaps \"conf\" not found");
    cluster.k("create -f conf.yaml");
    cluster.says("replace -f conf.yaml", &["configmap/conf replaced"]);
    let before = cluster.k("get configmap conf -o jsonpath={.metadata.uid}");
    cluster.says("replace --force -f conf.yaml", &["configmap \"conf\" deleted", "configmap/conf replaced"]);
    assert_ne!(cluster.k("get configmap conf -o jsonpath={.metadata.uid}"), before);
    let old = config("{a: '2'}").replace("name: conf", "name: conf, resourceVersion: '1'");
    cluster.write("old.yaml", &old);
    cluster.refuses("replace -f old.yaml", "Operation cannot be fulfilled on configmaps \"conf\": the object has been modified; please apply your changes to the latest version and try again");
    cluster.k("expose deployment web --port=80");
    let ip = cluster.k("get service web -o jsonpath={.spec.clusterIP}");
    let moved = cluster.k("get service web -o yaml").replace(&ip, "10.96.0.250");
    cluster.write("moved.yaml", &moved);
    cluster.refuses("replace -f moved.yaml", "spec.clusterIPs[0]: Invalid value: [\"10.96.0.250\"]");
    cluster.refuses("replace -f moved.yaml", "may not change once set");
}

#[test]
fn delete_cascades_as_it_is_told() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    let pods = |label: &str| format!("get pods -l app={label} -o name");
    for name in ["back", "fore", "orphan"] {
        cluster.k(&format!("create deployment {name} --image=x"));
        cluster.shows(&pods(name), "pod/");
    }
    cluster.says(
        "delete deployment back --cascade=background",
        &["deployment.apps \"back\" deleted from default namespace"],
    );
    cluster.becomes(&pods("back"), "");
    cluster.says(
        "delete deployment fore --cascade=foreground --timeout=30s",
        &["deployment.apps \"fore\" deleted"],
    );
    assert_eq!(cluster.k(&pods("fore")), "", "the deployment went before its pods");
    cluster.k("delete deployment orphan --cascade=orphan");
    let set = cluster.k("get replicasets -l app=orphan -o name");
    assert!(set.starts_with("replicaset.apps/orphan-"), "{set}");
    assert_eq!(
        cluster.k("get replicasets -l app=orphan -o jsonpath='{.items[0].metadata.ownerReferences}'"),
        ""
    );
    cluster.says("delete replicasets -l app=orphan", &["deleted"]);
    cluster.becomes(&pods("orphan"), "");

    cluster.write("conf.yaml", &config("{a: '1'}"));
    cluster.k("create -f conf.yaml");
    cluster.says("delete -f conf.yaml", &["configmap \"conf\" deleted from default namespace"]);
    cluster.refuses("delete -f conf.yaml", "configmaps \"conf\" not found");
    assert_eq!(cluster.k("delete -f conf.yaml --ignore-not-found"), "");
    cluster.k("create configmap one");
    cluster.says(
        "delete configmap one --dry-run=server",
        &["configmap \"one\" deleted from default namespace (server dry run)"],
    );
    cluster.says("delete configmaps --all -n default", &["configmap \"one\" deleted"]);
    cluster.says("delete pods -l no=body", &["No resources found"]);

    // Bound to a node that never answers: only force removes it.
    cluster.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bound}\nspec: {nodeName: gone, containers: [{name: c, image: i}]}\n");
    cluster.k("create -f pod.yaml");
    cluster.says("delete pod bound --wait=false", &["pod \"bound\" deleted"]);
    cluster.says("get pod bound", &["Terminating"]);
    cluster
        .refuses("delete pod bound --now --timeout=1s", "timed out waiting for the condition on pods/bound");
    cluster.says(
        "delete pod bound --grace-period=0 --force",
        &["Warning: Immediate deletion does not wait for confirmation", "pod \"bound\" force deleted"],
    );
    cluster.refuses("get pod bound", "NotFound");
    cluster.k("create namespace short");
    cluster.k("create configmap inside -n short");
    cluster.says("delete namespace short --timeout=30s", &["namespace \"short\" deleted"]);
    cluster.refuses("get configmap inside -n short", "NotFound");
    cluster.refuses("delete namespace default", "this namespace may not be deleted");
}

#[test]
fn kubectl_applies_a_list() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    let item = |name: &str, field: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"{field}":{{"a":"b"}}}}"#
        )
    };
    let list = |field: &str| {
        let items = [item("one", "data"), item("two", field)].join(",");
        format!(r#"{{"apiVersion":"v1","kind":"List","items":[{items}]}}"#)
    };
    cluster.write("list.json", &list("data"));
    cluster.says("apply -f list.json", &["configmap/one created", "configmap/two created"]);
    cluster.says("apply -f list.json", &["configmap/one unchanged", "configmap/two unchanged"]);
    cluster.write("wrong.json", &list("date"));
    cluster.refuses("apply -f wrong.json", "unknown field \"date\"");
    let all = cluster.k("get --raw /openapi/v2");
    assert!(
        all.contains("\"swagger\":\"2.0\"") && all.contains("#/definitions/io.k8s.api.core.v1.PodSpec"),
        "{}",
        all.len()
    );
}
