//! Runs the test program: once to hear which tests a group has, then each worker's share of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::Cluster;
use super::groups::Group;
use super::interrupt::Interrupt;
use super::report::{self, End, Test};
use super::table::{self, Line};
use super::{Conformance, plan, stand_ins};

/// How long a test program has to end, once it was asked to: it tidies up.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs the groups against a cluster that is made for them, and goes with them: also when somebody ends this program.
pub(super) fn run(asked: &Conformance, groups: &[&'static Group]) -> Result<Vec<Line>> {
    let (Some(program), Some(images)) = (&asked.e2e_test, &asked.images) else {
        bail!("--e2e-test and --images are needed");
    };
    let throw_away = tempfile::tempdir()?;
    let folder = asked.keep.clone().unwrap_or_else(|| throw_away.path().join("logs"));
    std::fs::create_dir_all(&folder)?;
    let interrupt = Interrupt::listen()?;
    let cluster =
        Cluster::start(&asked.knarr, throw_away.path(), asked.nodes, asked.kubelet_config.as_deref())?;
    cluster.import(images)?;
    let runner = Runner { asked, program, cluster: &cluster, interrupt: &interrupt, folder };
    let mut lines = Vec::new();
    for group in groups {
        let names = runner.names(group)?;
        eprintln!("{}: {} tests", group.name, names.len());
        if group.serial {
            stand_ins::place(&asked.kubectl, &cluster.kubeconfig)?;
        }
        lines.push(Line { group: group.name, tests: runner.tests(group, &names)? });
        if interrupt.has_come() {
            print!("{}", table::text(&lines));
            bail!("interrupted");
        }
    }
    Ok(lines)
}

struct Runner<'a> {
    asked: &'a Conformance,
    program: &'a Path,
    cluster: &'a Cluster,
    interrupt: &'a Interrupt,
    folder: PathBuf,
}

impl Runner<'_> {
    fn command(&self, report: &Path, log: File) -> Result<Command> {
        let mut command = Command::new(self.program);
        command
            .env("KUBECONFIG", &self.cluster.kubeconfig)
            .arg("--ginkgo.no-color")
            .arg(format!("--ginkgo.json-report={}", report.display()))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log);
        Ok(command)
    }

    /// The tests of a group.
    fn names(&self, group: &Group) -> Result<Vec<String>> {
        let report = self.folder.join(format!("{}.json", group.name));
        let log = self.folder.join(format!("{}.log", group.name));
        let mut command = self.command(&report, File::create(&log)?)?;
        command.arg("--ginkgo.dry-run").args(plan::choose(group));
        let ended = command.status().with_context(|| format!("running {}", self.program.display()))?;
        if !ended.success() {
            bail!("asking for the tests of {}: {ended}: see {}", group.name, log.display());
        }
        let tests = report::tests(&std::fs::read(&report)?)?;
        Ok(tests.into_iter().map(|test| test.name).collect())
    }

    /// Runs them, and tells how they ended.
    fn tests(&self, group: &Group, names: &[String]) -> Result<Vec<Test>> {
        let workers = if group.serial { 1 } else { self.asked.workers };
        let limit = Duration::from_secs(self.asked.timeout * 60);
        let mut running = Vec::new();
        for (number, hand) in plan::deal(names, workers).into_iter().enumerate() {
            let report = self.folder.join(format!("{}-{number}.json", group.name));
            let log = self.folder.join(format!("{}-{number}.log", group.name));
            let mut command = self.command(&report, File::create(&log)?)?;
            command
                .arg(format!("--kubectl-path={}", self.asked.kubectl.display()))
                .arg(format!("--num-nodes={}", self.asked.nodes))
                .arg(format!("--ginkgo.timeout={}m", self.asked.timeout))
                .args(["--provider=skeleton", "--ginkgo.v"])
                .args(plan::only(&hand));
            if let Some(root) = self.cluster.kubelet_root()? {
                command.arg(format!("--kubelet-root-dir={}", root.display()));
            }
            running.push((command.spawn()?, report, log));
        }
        let (since, mut tests) = (Instant::now(), Vec::new());
        for (mut child, report, log) in running {
            end_within(&mut child, limit.saturating_sub(since.elapsed()), self.interrupt)?;
            match std::fs::read(&report).map_err(Into::into).and_then(|json| report::tests(&json)) {
                Ok(ended) => tests.extend(ended),
                Err(error) => {
                    let why = format!("{error:#}: see {}", log.display());
                    tests.push(Test { name: format!("the report of {}", group.name), end: End::Failed(why) });
                }
            }
        }
        Ok(tests)
    }
}

/// Waits for a program, which is asked to end when it takes too long or this one is, and is made to when it does not.
fn end_within(child: &mut Child, limit: Duration, interrupt: &Interrupt) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    for (patience, signal) in [(limit, Signal::SIGINT), (PATIENCE, Signal::SIGKILL)] {
        let since = Instant::now();
        while since.elapsed() < patience && !(signal == Signal::SIGINT && interrupt.has_come()) {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        kill(pid, signal)?;
    }
    child.wait()?;
    Ok(())
}
