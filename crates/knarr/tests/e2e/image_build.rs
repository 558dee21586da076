//! `knarr image build`.

use std::fs;

use crate::node_pods::nodes;

#[test]
fn a_pod_runs_an_image_that_was_built_over_another() {
    let Some(cluster) = nodes("1") else { return };
    let context = cluster.dir().join("context");
    fs::create_dir_all(context.join("site")).unwrap();
    fs::write(context.join("site/page"), "built here").unwrap();
    let first = "FROM busybox:test\nWORKDIR /srv\nCOPY site/ .\nENV PAGE=/srv/page\n";
    fs::write(context.join("Containerfile"), first).unwrap();
    let folder = context.display().to_string();
    cluster.knarr(&["image", "build", "-t", "example.com/site:1", &folder]);
    let second = "FROM example.com/site:1\nUSER 7\nCOPY --chown=7 --chmod=400 site/page /srv/own\n\
        ENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"cat $PAGE own; id -u\"]\n";
    fs::write(context.join("Containerfile"), second).unwrap();
    cluster.knarr(&["image", "build", "-t", "example.com/site:2", &folder]);
    cluster.kubectl(&["run", "site", "--image=example.com/site:2", "--restart=Never"]);
    cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/site", "--timeout=30s"]);
    assert_eq!(cluster.kubectl(&["logs", "site"]), "built herebuilt here7\n");
}
