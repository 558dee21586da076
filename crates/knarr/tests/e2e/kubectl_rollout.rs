//! `scale`, `rollout` and `set`.

use crate::cluster::Cluster;

#[test]
fn scale_set_and_roll_back_a_deployment() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.k("create deployment web --image=nginx:1 --replicas=2");
    cluster.refuses(
        "scale deployment web --replicas=3 --current-replicas=9",
        "error: Expected replicas to be 9, was 2",
    );
    cluster.says("scale deployment web --replicas=3 --current-replicas=2", &["deployment.apps/web scaled"]);
    cluster.becomes("get pods -l app=web -o jsonpath='{.items[*].status.phase}'", "Pending Pending Pending");
    cluster.k("create deployment other --image=x");
    cluster.says(
        "scale deployment --all --replicas=1",
        &["deployment.apps/other scaled", "deployment.apps/web scaled"],
    );
    cluster.refuses("scale deployment nope --replicas=1", "deployments.apps \"nope\" not found");
    cluster.refuses("rollout status deployment web --timeout=1s", "timed out waiting for the condition");
    cluster.says(
        "rollout status deployment web --watch=false",
        &["Waiting for deployment \"web\" rollout to finish: 0 of 1 updated replicas are available..."],
    );

    let history = "rollout history deployment web";
    cluster.says("set image deployment web nginx=nginx:2", &["deployment.apps/web image updated"]);
    cluster.shows(history, "\n2         <none>");
    cluster.k("annotate deployment web kubernetes.io/change-cause='third time'");
    cluster.k("set image deployment web '*=nginx:3'");
    cluster.shows(history, "\n3         third time");
    cluster.says(
        "rollout history deployment web --revision=1",
        &["deployment.apps/web with revision #1", "Image:\tnginx:1"],
    );
    cluster.refuses(
        "rollout history deployment web --revision=9",
        "error: unable to find the specified revision",
    );
    cluster.says("rollout undo deployment web", &["deployment.apps/web rolled back"]);
    cluster.shows(history, "\n4  ");
    assert_eq!(cluster.k("get deployment web -o jsonpath={..image}"), "nginx:2");
    cluster.k("rollout undo deployment web --to-revision=1");
    assert_eq!(cluster.k("get deployment web -o jsonpath={..image}"), "nginx:1");
    cluster.refuses(
        "rollout undo deployment web --to-revision=77",
        "error: unable to find specified revision 77 in history",
    );
    cluster.shows(history, "\n5  ");

    cluster.says("rollout pause deployment web", &["deployment.apps/web paused"]);
    cluster.refuses("rollout pause deployment web", "deployments.apps \"web\" is already paused");
    cluster.refuses("rollout undo deployment web", "you cannot rollback a paused deployment");
    cluster.k("set env deployment web A=1 B=2");
    cluster.becomes(
        "get deployment web -o jsonpath='{.status.conditions[?(@.type==\"Progressing\")].reason}'",
        "DeploymentPaused",
    );
    assert!(!cluster.k(history).contains("\n6  "));
    cluster.says("rollout resume deployment web", &["deployment.apps/web resumed"]);
    cluster.shows(history, "\n6  ");
    cluster.refuses("rollout resume deployment web", "deployments.apps \"web\" is not paused");
    cluster.says("set env deployment web --list", &["# Deployment web, container nginx\nA=1\nB=2\n"]);
    cluster.k("set env deployment web B-");
    assert_eq!(cluster.k("set env deployment web --list"), "# Deployment web, container nginx\nA=1\n");
    cluster.says(
        "set resources deployment web --limits=cpu=1,memory=64Mi --requests=cpu=100m",
        &["deployment.apps/web resource requirements updated"],
    );
    let resources =
        cluster.k("get deployment web -o jsonpath='{.spec.template.spec.containers[0].resources}'");
    assert_eq!(resources, r#"{"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"100m"}}"#);
    cluster
        .says("set serviceaccount deployment web default", &["deployment.apps/web serviceaccount updated"]);
    cluster.says("rollout restart deployment web", &["deployment.apps/web restarted"]);
    let restarted = cluster.k("get deployment web -o jsonpath='{.spec.template.metadata.annotations}'");
    assert!(restarted.contains("kubectl.kubernetes.io/restartedAt"), "{restarted}");
    // Ten old revisions are kept at most, and the one that is wanted has all the pods in the end.
    cluster.k("scale deployment web --replicas=0");
    cluster
        .says("rollout status deployment web --timeout=30s", &["deployment \"web\" successfully rolled out"]);
    cluster.becomes("get pods -l app=web -o name", "");
}
