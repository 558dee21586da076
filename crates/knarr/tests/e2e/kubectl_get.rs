//! `get`, `describe`, `explain`, and what else only looks.

use crate::cluster::Cluster;

const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: one, tier: front}}
spec: {containers: [{name: c, image: 'first:1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, labels: {app: two}}
spec: {priority: 0, containers: [{name: c, image: 'second:1'}, {name: d, image: 'third:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {type: NodePort, selector: {app: one}, ports: [{port: 80, nodePort: 30123, targetPort: 8080}]}
";

#[test]
fn get_selects_sorts_and_prints_in_every_format() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.write("objects.yaml", OBJECTS);
    cluster.says("apply -f objects.yaml", &["pod/a created", "pod/b created", "service/svc created"]);

    let wide = cluster.k("get pods -o wide");
    let head: Vec<&str> =
        wide.lines().next().unwrap().split("  ").map(str::trim).filter(|h| !h.is_empty()).collect();
    let heads =
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"];
    assert_eq!(head, heads);
    assert!(
        wide.lines().any(|line| line.starts_with("b ") && line.contains("0/2") && line.contains("Pending"))
    );

    let names = |selector: &str| cluster.k(&format!("get pods -o name {selector}")).replace('\n', " ");
    assert_eq!(names(""), "pod/a pod/b ");
    assert_eq!(names("-l app=one"), "pod/a ");
    assert_eq!(names("-l app!=one"), "pod/b ");
    assert_eq!(names("-l 'app in (one,two),tier'"), "pod/a ");
    assert_eq!(names("-l 'app notin (one)'"), "pod/b ");
    assert_eq!(names("-l '!tier'"), "pod/b ");
    assert_eq!(names("--field-selector status.phase=Pending,metadata.name!=a"), "pod/b ");
    assert_eq!(names("--sort-by='{.spec.containers[0].image}'"), "pod/a pod/b ");
    assert_eq!(names("--sort-by=.metadata.labels.tier"), "pod/b pod/a ");
    assert_eq!(names("--chunk-size=1"), "pod/a pod/b ");
    cluster.refuses("get pods --field-selector spec.nope=1", "field label not supported: spec.nope");
    cluster.refuses("get pods -l 'a in b'", "unable to parse requirement");

    let images = cluster.k("get pod b -o jsonpath='{.spec.containers[*].image}'");
    assert_eq!(images, "second:1 third:1");
    let columns = cluster.k("get pods -o custom-columns=N:.metadata.name,I:.spec.containers[0].image");
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["N", "I", "a", "first:1", "b", "second:1"]);
    let template = cluster.k("get pods -o go-template='{{range .items}}{{.metadata.name}};{{end}}'");
    assert_eq!(template, "a;b;");
    let json: serde_json::Value = serde_json::from_str(&cluster.k("get pods,svc -o json")).unwrap();
    assert_eq!((json["kind"].as_str(), json["items"].as_array().unwrap().len()), (Some("List"), 4));
    let yaml = cluster.k("get pod a -o yaml");
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"), "{yaml}");
    assert!(yaml.contains("  restartPolicy: Always\n") && !yaml.contains("managedFields"), "{yaml}");
    cluster.says("get pod a -o yaml --show-managed-fields", &["manager: kubectl-client-side-apply"]);

    let labels = cluster.k("get pods --show-labels -L app --no-headers");
    assert!(labels.lines().next().unwrap().ends_with("one   app=one,tier=front"), "{labels}");
    cluster.says("get pod/a svc/svc", &["pod/a ", "service/svc ", "NodePort", "80:30123/TCP"]);
    cluster.says("get all", &["pod/a ", "service/kubernetes "]);
    cluster.says("get pods -A", &["NAMESPACE", "default     a "]);
    cluster.says("get pods -n kube-public", &["No resources found in kube-public namespace."]);
    cluster.refuses("get pod nope", "Error from server (NotFound): pods \"nope\" not found");
    cluster.refuses("get nopes", "error: the server doesn't have a resource type \"nopes\"");
    cluster.refuses("get pods --as=jane", r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#);
}

#[test]
fn watches_print_what_changes() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.k("create configmap before");
    let mut all = cluster.start("get configmaps -w");
    all.until("before");
    let mut only = cluster.start("get configmap --watch-only -o name");
    let mut events = cluster.start("get configmap later -w --output-watch-events --ignore-not-found -o name");
    let mut number = 0;
    // The second and third have begun once they show a change.
    cluster.until("the watches", || {
        number += 1;
        cluster.k(&format!("create configmap c{number}"));
        true
    });
    all.until("c1");
    cluster.k("create configmap later --from-literal=a=b");
    let line = all.until("later");
    assert!(line.split_whitespace().nth(1) == Some("1"), "{line}");
    cluster.until("the watch of changes alone", || {
        number += 1;
        cluster.k(&format!("create configmap c{number}"));
        number > 2
    });
    assert!(!only.until("configmap/").contains("before"));
    drop(events);
    events = cluster.start("get configmap later -w --output-watch-events");
    events.until("ADDED");
    cluster.k("delete configmap later");
    assert!(events.until("DELETED").contains("later"));
}

#[test]
fn describe_tells_what_there_is_to_know() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.write("objects.yaml", OBJECTS);
    cluster.k("apply -f objects.yaml");
    cluster.k("create deployment web --image=nginx:1 --replicas=2");
    cluster.k("create configmap conf --from-literal=key=value");
    cluster.k("create secret generic hidden --from-literal=password=12345");
    cluster.becomes("get deployment web -o jsonpath={.status.replicas}", "2");
    cluster.shows("events --for pod/a", "FailedScheduling");

    cluster.says(
        "describe pod a",
        &[
            "Status:           Pending",
            "Image:      first:1",
            "PodScheduled   False",
            "QoS Class:                   BestEffort",
            "kube-api-access-",
            "FailedScheduling",
            "default-scheduler  no nodes available to schedule pods",
        ],
    );
    cluster.says(
        "describe deployment web",
        &[
            "Replicas:               2 desired | 2 updated | 2 total | 0 available | 2 unavailable",
            "StrategyType:           RollingUpdate",
            "25% max unavailable, 25% max surge",
            "Available      False   MinimumReplicasUnavailable",
            "(2/2 replicas created)",
            "deployment-controller  Scaled up replica set web-",
        ],
    );
    cluster.says(
        "describe replicaset -l app=web",
        &[
            "Controlled By:  Deployment/web",
            "Replicas:       2 current / 2 desired",
            "0 Running / 2 Waiting / 0 Succeeded / 0 Failed",
            "SuccessfulCreate",
        ],
    );
    cluster.says(
        "describe service svc",
        &[
            "Type:                     NodePort",
            "NodePort:                 <unset>  30123/TCP",
            "TargetPort:               8080/TCP",
            "Endpoints:                \n",
            "Session Affinity:         None",
            "External Traffic Policy:  Cluster",
        ],
    );
    cluster.says("describe configmap conf", &["Data\n====\nkey:\n----\nvalue\n"]);
    let secret = cluster.k("describe secret hidden");
    assert!(secret.contains("Type:  Opaque") && secret.contains("password:  5 bytes"), "{secret}");
    assert!(!secret.contains("12345") && !secret.contains("MTIzNDU"), "{secret}");
    cluster.says(
        "describe namespace default",
        &["Labels:       kubernetes.io/metadata.name=default", "Status:       Active", "No resource quota."],
    );
    cluster.refuses("describe pod nope", "pods \"nope\" not found");
}

#[test]
fn kinds_are_listed_explained_and_served_raw() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    let names = cluster.k("api-resources -o name");
    let names: Vec<&str> = names.lines().collect();
    let wanted: Vec<&str> = include_str!("api-resources.txt").lines().collect();
    let missing: Vec<&&str> = wanted.iter().filter(|name| !names.contains(name)).collect();
    let surplus: Vec<&&str> = names.iter().filter(|name| !wanted.contains(name)).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, not upstream's {surplus:?}");
    let batch = cluster.k("api-resources --api-group=batch --no-headers -o wide");
    let rows: Vec<Vec<&str>> = batch.lines().map(|line| line.split_whitespace().collect()).collect();
    let verbs = "create,delete,deletecollection,get,list,patch,update,watch";
    assert_eq!(
        rows,
        [
            vec!["cronjobs", "cj", "batch/v1", "true", "CronJob", verbs, "all"],
            vec!["jobs", "batch/v1", "true", "Job", verbs, "all"]
        ]
    );
    let kinds = cluster.k("api-resources --verbs=deletecollection --namespaced=false -o name");
    assert!(
        kinds.contains("nodes\n") && !kinds.contains("namespaces\n") && !kinds.contains("pods\n"),
        "{kinds}"
    );
    let versions = cluster.k("api-versions");
    assert!(
        ["v1\n", "apps/v1\n", "networking.k8s.io/v1\n", "autoscaling/v2\n"]
            .iter()
            .all(|v| versions.contains(v))
    );

    cluster.says(
        "explain pod",
        &[
            "KIND:       Pod\nVERSION:    v1\n",
            "DESCRIPTION:\n    Pod is a collection of containers that can run on a host.",
            "Specification of the desired behavior of the pod.",
            "  spec\t<PodSpec>",
        ],
    );
    cluster.says(
        "explain deployments.spec.strategy.rollingUpdate",
        &["GROUP:      apps\n", "FIELD: rollingUpdate <RollingUpdateDeployment>", "maxSurge\t<IntOrString>"],
    );
    cluster.says(
        "explain pod.spec.volumes --recursive",
        &["  configMap\t<ConfigMapVolumeSource>\n    defaultMode\t<integer>", "driver\t<string> -required-"],
    );
    cluster.refuses("explain pod.spec.nope", "error: field \"nope\" does not exist");

    assert_eq!(cluster.k("get --raw /healthz"), "ok");
    assert!(cluster.k("get --raw /readyz?verbose").ends_with("readyz check passed\n"));
    assert!(cluster.k("get --raw /version").contains(r#""gitVersion":"v1.37."#));
    assert!(cluster.k("get --raw /metrics").contains("\napiserver_request_total{"));
    assert!(cluster.k("get --raw /openapi/v3").contains("\"apis/apps/v1\":"));
    assert!(cluster.k("get --raw /apis").contains("\"kind\":\"APIGroupList\""));
    cluster.refuses("get --raw /nope", "the server could not find the requested resource");
    cluster.says("version", &["Client Version: v1.37", "Server Version: v1.37."]);
    cluster.says("cluster-info", &["Kubernetes control plane is running at https://127.0.0.1:"]);
    cluster.says(
        "config view",
        &[
            "certificate-authority-data: DATA+OMITTED",
            "current-context: e2e-",
            "client-key-data: DATA+OMITTED",
        ],
    );
    cluster.says("top pods", &["No resources found in default namespace."]);
    cluster.refuses("top nodes", "error: metrics not available yet");
}

/// Every kind that has columns of its own, with what stands in them.
#[test]
fn columns_are_as_upstream_prints_them() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.write("kinds.yaml", include_str!("manifests/kinds.yaml"));
    cluster.k("apply -f kinds.yaml");
    let wanted = include_str!("columns.txt");
    let mut lines = wanted.lines().peekable();
    while let Some(command) = lines.next() {
        let mut table = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            table.push(line);
        }
        lines.next();
        let got = cluster.k(command.trim_start_matches("$ "));
        // Ages differ from run to run; so does the width of their column.
        let squeeze = |line: &str| {
            let words = line.split_whitespace().map(|word| if is_age(word) { "AGE" } else { word });
            words.collect::<Vec<_>>().join(" ")
        };
        let got: Vec<String> = got.lines().map(squeeze).collect();
        let table: Vec<String> = table.into_iter().map(squeeze).collect();
        assert_eq!(got, table, "{command}");
    }
}

fn is_age(word: &str) -> bool {
    word.strip_suffix('s')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
