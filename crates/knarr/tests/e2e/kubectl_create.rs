//! `create`, `run` and `expose`.

use crate::cluster::Cluster;

#[test]
fn create_makes_what_its_subcommands_say() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    let made =
        |line: &str, what: &str| cluster.says(&format!("create {line}"), &[&format!("{what} created")]);
    made("configmap c --from-literal=a=b", "configmap/c");
    cluster
        .refuses("create configmap c", "error: failed to create configmap: configmaps \"c\" already exists");
    cluster.refuses("create configmap Bad_Name", "a lowercase RFC 1123 subdomain must consist of");
    cluster.write("note.txt", "from a file");
    made("configmap files --from-file=note.txt --from-file=other=note.txt", "configmap/files");
    assert_eq!(
        cluster.k("get configmap files -o jsonpath={.data}"),
        r#"{"note.txt":"from a file","other":"from a file"}"#
    );
    made("secret generic plain --from-literal=p=q", "secret/plain");
    made(
        "secret docker-registry pull --docker-server=r --docker-username=u --docker-password=p",
        "secret/pull",
    );
    certificate(&cluster);
    made("secret tls tls --cert=cert.pem --key=key.pem", "secret/tls");
    let types = cluster.k("get secrets -o jsonpath='{range .items[*]}{.metadata.name}={.type} {end}'");
    assert_eq!(types, "plain=Opaque pull=kubernetes.io/dockerconfigjson tls=kubernetes.io/tls ");
    made("serviceaccount robot", "serviceaccount/robot");
    made(
        "role reader --verb=get,list --resource=pods,deployments.apps",
        "role.rbac.authorization.k8s.io/reader",
    );
    made(
        "rolebinding robots --role=reader --serviceaccount=default:robot",
        "rolebinding.rbac.authorization.k8s.io/robots",
    );
    made("clusterrole looker --verb=get --resource=nodes", "clusterrole.rbac.authorization.k8s.io/looker");
    made(
        "clusterrolebinding jane --clusterrole=looker --user=jane",
        "clusterrolebinding.rbac.authorization.k8s.io/jane",
    );
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(cluster.k(&format!("auth can-i list deployments {robot}")), "yes\n");
    assert_eq!(cluster.k("auth can-i get nodes --as=jane"), "yes\n");
    made("deployment web --image=nginx --replicas=2 --port=80", "deployment.apps/web");
    made("namespace other", "namespace/other");
    made("service clusterip inside --tcp=80:8080", "service/inside");
    made("service nodeport outside --tcp=80 --node-port=30999", "service/outside");
    made("service externalname away --external-name=example.com", "service/away");
    made("service loadbalancer balanced --tcp=80", "service/balanced");
    cluster.refuses(
        "create service nodeport twice --tcp=80 --node-port=30999",
        "Invalid value: 30999: provided port is already allocated",
    );
    made("job once --image=busybox -- true", "job.batch/once");
    made("cronjob often --image=busybox --schedule='*/5 * * * *' -- date", "cronjob.batch/often");
    made("quota few --hard=pods=9", "resourcequota/few");
    made("poddisruptionbudget some --selector=app=web --min-available=1", "poddisruptionbudget.policy/some");
    made("priorityclass high --value=10", "priorityclass.scheduling.k8s.io/high");
    made("ingress front --rule=example.com/=inside:80", "ingress.networking.k8s.io/front");
    let token = cluster.k("create token robot --duration=10m");
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let own = format!(
        "auth whoami --kubeconfig=/dev/null --insecure-skip-tls-verify --server={} --token={}",
        server(&cluster),
        token.trim()
    );
    cluster.says(
        &own,
        &[
            "system:serviceaccount:default:robot",
            "[system:serviceaccounts system:serviceaccounts:default system:authenticated]",
        ],
    );
    cluster.write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {generateName: some-}\nspec: {containers: [{name: c, image: i}]}\n");
    cluster.says("create -f pod.yaml", &["pod/some-"]);
    let dry = cluster.k("create deployment dry --image=x --dry-run=client -o yaml");
    assert!(dry.starts_with("apiVersion: apps/v1\nkind: Deployment\n"), "{dry}");
    cluster
        .says("run lone --image=busybox --env=A=b --labels=a=b --port=80 -- sleep 5", &["pod/lone created"]);
    cluster.refuses(
        "run lone --image=busybox",
        "Error from server (AlreadyExists): pods \"lone\" already exists",
    );
    assert_eq!(
        cluster.k("get pod lone -o jsonpath='{.spec.containers[0].args} {.metadata.labels}'"),
        r#"["sleep","5"] {"a":"b"}"#
    );
    cluster
        .says("expose deployment web --port=80 --target-port=8080 --type=NodePort", &["service/web exposed"]);
    assert_eq!(
        cluster.k("get service web -o jsonpath='{.spec.selector} {.spec.ports[0].targetPort}'"),
        r#"{"app":"web"} 8080"#
    );
    cluster.refuses("expose deployment web --port=80", "services \"web\" already exists");
    cluster.says("autoscale deployment web --max=3", &["horizontalpodautoscaler.autoscaling/web autoscaled"]);
}

fn server(cluster: &Cluster) -> String {
    cluster.k("config view --minify -o jsonpath='{.clusters[0].cluster.server}'")
}

fn certificate(cluster: &Cluster) {
    let output = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=example.com", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(cluster.dir())
        .output()
        .expect("openssl is needed: apt-get install openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
