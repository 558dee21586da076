//! Pods in the place of those that the tests' authors have on every node: some tests wait a minute for them, and go on
//! without them.

use std::fmt::Write;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The names that are looked for, in one.
const NAME: &str = "kube-proxy-fluentd-elasticsearch-node-problem-detector";
/// Among the images that tests run.
const IMAGE: &str = "registry.k8s.io/pause:3.10.2";

/// Puts one on each node.
pub(super) fn place(kubectl: &Path, kubeconfig: &Path) -> Result<()> {
    let nodes = run(kubectl, kubeconfig, &["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"], "")?;
    let nodes: Vec<&str> = nodes.split_whitespace().collect();
    run(kubectl, kubeconfig, &["apply", "-f", "-"], &manifest(&nodes))?;
    let ready =
        ["wait", "--for=condition=Ready", "--timeout=60s", "-n", "kube-system", "pod", "-l", "stand-in"];
    run(kubectl, kubeconfig, &ready, "").map(|_| ())
}

fn manifest(nodes: &[&str]) -> String {
    let mut text = String::new();
    for (at, node) in nodes.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {NAME}-{at}, namespace: kube-system, labels: {{stand-in: \"\"}}}}\n\
             spec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 0\n  tolerations: [{{operator: Exists}}]\n  \
             containers: [{{name: c, image: \"{IMAGE}\"}}]\n"
        );
    }
    text
}

fn run(kubectl: &Path, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String> {
    let shown = format!("{} {}", kubectl.display(), arguments.join(" "));
    let mut child = Command::new(kubectl)
        .env("KUBECONFIG", kubeconfig)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_node_has_one() {
        let text = super::manifest(&["a", "b"]);
        assert_eq!(text.matches("kind: Pod").count(), 2);
        assert!(text.contains("nodeName: b\n"), "{text}");
    }
}
