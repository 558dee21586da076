//! What a kubelet is for the kernel: how readily it is killed when memory is short (`oomScoreAdj`), how many files it may
//! have open (`maxOpenFiles`), and which groups it and the machine's other processes are in (`kubeletCgroups`,
//! `systemCgroups`). What it may not change stays as it is.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cgroups::{Cgroups, PERIOD};
use crate::configuration::Fields;

/// Sets all of them.
pub fn apply(fields: &Fields) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", fields.oom_score_adj.to_string()) {
        tracing::info!(%error, wanted = fields.oom_score_adj, "oomScoreAdj stays as it is");
    }
    let wanted = u64::try_from(fields.max_open_files).unwrap_or(0);
    let set = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        match setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)) {
            // Not everybody may raise the hard limit.
            Err(nix::Error::EPERM) => setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard),
            done => done,
        }
    });
    if let Err(error) = set {
        tracing::info!(%error, wanted, "maxOpenFiles stays as it is");
    }
    let groups = [
        ("systemCgroups", &fields.system_cgroups, Cgroups::ungrouped as fn(&Cgroups) -> io::Result<Vec<u32>>),
        ("kubeletCgroups", &fields.kubelet_cgroups, |_| Ok(vec![std::process::id()])),
    ];
    for (field, group, who) in groups.into_iter().filter(|(_, group, _)| !group.is_empty()) {
        let moved = Cgroups::detect(PERIOD).and_then(|groups| groups.admit(group, &who(&groups)?));
        if let Err(error) = moved {
            tracing::warn!(%error, group, "{field}: some processes stay where they are");
        }
    }
}
