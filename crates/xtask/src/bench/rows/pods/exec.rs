//! Commands in a container.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use async_trait::async_trait;

use crate::bench::image;
use crate::bench::rows::Measure;
use crate::bench::stats::percentile;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// `kubectl exec` and `kubectl get`, in turn.
pub(in crate::bench::rows) struct Exec;

#[async_trait(?Send)]
impl Measure for Exec {
    async fn prepare(&self, target: &Target) -> Result<()> {
        super::warm(target).await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/bin/kubectl");
        let program = if own.exists() { own } else { "kubectl".into() };
        let kubeconfig = target.cluster()?.kubeconfig();
        let kubectl = |arguments: &[&str]| -> Result<f64> {
            let since = Instant::now();
            image::run(Command::new(&program).arg("--kubeconfig").arg(&kubeconfig).args(arguments))?;
            Ok(since.elapsed().as_secs_f64() * 1000.0)
        };
        let (mut get, mut exec) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            get.push(kubectl(&["get", "pod", "warm-0"])?);
            exec.push(kubectl(&["exec", "warm-0", "--", "/bin/busybox", "true"])?);
        }
        let middle = |times: &mut Vec<f64>| percentile(times, 0.5).unwrap_or(f64::NAN);
        let (get, exec) = (middle(&mut get), middle(&mut exec));
        Ok(vec![("over get ms", exec - get), ("get ms", get), ("exec ms", exec)])
    }
}
