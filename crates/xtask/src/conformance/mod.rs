//! `cargo xtask conformance`: Kubernetes' own end-to-end tests against a throw-away cluster.
//!
//! It is given the built test program, and a folder with the archives of the images that the tests run; it builds and
//! downloads neither. Which tests are run stands in [`groups`], with why others are left out, and what a machine alone
//! cannot give in [`limits`]. What a test does is not known here: only what it is called and how it ended.

mod cluster;
mod groups;
mod interrupt;
mod limits;
mod plan;
mod report;
mod run;
mod stand_ins;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use groups::Group;

/// `cargo xtask conformance`
#[derive(Debug, Args)]
pub struct Conformance {
    /// The groups to run, by name [default: all]
    groups: Vec<String>,
    /// Show the groups there are, with what each leaves out
    #[arg(long)]
    list: bool,
    /// Kubernetes' test program, built
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    e2e_test: Option<PathBuf>,
    /// A folder of archives (*.tar) of the images that the tests run
    #[arg(long, value_name = "FOLDER", required_unless_present = "list")]
    images: Option<PathBuf>,
    /// The program whose cluster is tested
    #[arg(long, value_name = "PATH", default_value = "target/debug/knarr")]
    knarr: PathBuf,
    /// The kubectl that tests call
    #[arg(long, value_name = "PATH", default_value = "kubectl")]
    kubectl: PathBuf,
    /// A KubeletConfiguration for the cluster's nodes
    #[arg(long, value_name = "FILE")]
    kubelet_config: Option<PathBuf>,
    /// How many nodes the cluster has
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// How many test programs run at the same time, each with its share of a group
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How long one group may take, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    timeout: u64,
    /// Where logs and reports of the test programs are kept [default: they are not]
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

impl Conformance {
    /// Runs the groups one after another and prints how their tests ended.
    ///
    /// # Errors
    /// When a group is unknown, nothing can be run, or a test failed that no known limit of the machine explains.
    pub fn run(self) -> Result<()> {
        if self.list {
            print!("{}", table::list(groups::ALL));
            return Ok(());
        }
        let chosen = chosen(&self.groups)?;
        let lines = run::run(&self, &chosen)?;
        print!("{}", table::text(&lines));
        match lines.iter().map(|line| line.unexplained().count()).sum() {
            0 => Ok(()),
            1 => bail!("1 test failed"),
            failed => bail!("{failed} tests failed"),
        }
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Group>> {
    if let Some(unknown) = names.iter().find(|name| !groups::ALL.iter().any(|group| group.name == **name)) {
        let known: Vec<&str> = groups::ALL.iter().map(|group| group.name).collect();
        bail!("there is no group {unknown}; there are {}", known.join(", "));
    }
    let wanted = |group: &&Group| names.is_empty() || names.iter().any(|name| name == group.name);
    Ok(groups::ALL.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_chosen_by_name_in_the_tables_order() {
        let all = chosen(&[]).unwrap();
        assert_eq!(all.len(), groups::ALL.len());
        let names = [all[2].name.to_owned(), all[0].name.to_owned()];
        let some: Vec<&str> = chosen(&names).unwrap().iter().map(|group| group.name).collect();
        assert_eq!(some, [all[0].name, all[2].name]);
        assert!(chosen(&["nobody".to_owned()]).unwrap_err().to_string().contains("no group nobody"));
    }
}
