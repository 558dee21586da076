//! What a kubelet is for the kernel: how readily it is killed when memory is short (`oomScoreAdj`), and how many files it
//! may have open (`maxOpenFiles`). What it may not change stays as it is.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::configuration::Fields;

/// Sets both.
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
}
