//! The options of the static policy.

use std::collections::BTreeMap;

use kinds::gates::{Gate, Gates};

use super::layout::{Layout, Level};
use crate::topology::{Policy, flag};

/// See KEP-2625 and its followers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    pub full_cores_only: bool,
    pub distribute_over_nodes: bool,
    pub align_by_socket: bool,
    pub distribute_over_cores: bool,
    pub strict_reservation: bool,
    pub prefer_uncore: bool,
}

impl Options {
    /// As a configuration gives them; some need a feature gate.
    ///
    /// # Errors
    /// Names what is unknown or does not go together, in upstream's words.
    pub fn new(given: &BTreeMap<String, String>, gates: Gates) -> Result<Self, String> {
        let mut options = Self::default();
        let alpha = gates.has(Gate::CpuManagerPolicyAlphaOptions);
        let beta = gates.has(Gate::CpuManagerPolicyBetaOptions);
        for (name, value) in given {
            let closed = |level: &str| {
                Err(format!(
                    "CPU Manager Policy {level}-level Options not enabled, but option {name:?} provided"
                ))
            };
            let option = match name.as_str() {
                "full-pcpus-only" => &mut options.full_cores_only,
                "strict-cpu-reservation" => &mut options.strict_reservation,
                "prefer-align-cpus-by-uncorecache" => &mut options.prefer_uncore,
                "distribute-cpus-across-numa" if !beta => return closed("Beta"),
                "distribute-cpus-across-numa" => &mut options.distribute_over_nodes,
                "align-by-socket" | "distribute-cpus-across-cores" if !alpha => return closed("Alpha"),
                "align-by-socket" => &mut options.align_by_socket,
                "distribute-cpus-across-cores" => &mut options.distribute_over_cores,
                _ => return Err(format!("unknown CPU Manager Policy option: {name:?}")),
            };
            *option = flag(name, value)?;
        }
        let both = |first, second| {
            Err(format!("static policy options {first} and {second} can not be used at the same time"))
        };
        let (cores, nodes) = ("distribute-cpus-across-cores", "distribute-cpus-across-numa");
        let uncore = "prefer-align-cpus-by-uncorecache";
        match options {
            Self { full_cores_only: true, distribute_over_cores: true, .. } => both("full-pcpus-only", cores),
            Self { distribute_over_nodes: true, distribute_over_cores: true, .. } => both(nodes, cores),
            Self { prefer_uncore: true, distribute_over_cores: true, .. } => both(uncore, cores),
            Self { prefer_uncore: true, distribute_over_nodes: true, .. } => both(uncore, nodes),
            options => Ok(options),
        }
    }

    /// Whether they can be had on this machine, placed like this.
    ///
    /// # Errors
    /// Names what cannot.
    pub fn check(self, layout: &Layout, placed: Policy) -> Result<(), String> {
        if self.align_by_socket && placed == Policy::SingleNumaNode {
            return Err("Topolgy manager single-numa-node policy is incompatible with CPUManager align-by-socket policy option".to_owned());
        }
        if self.align_by_socket && layout.count(Level::Socket) > layout.count(Level::Node) {
            return Err("Align by socket is not compatible with hardware where number of sockets are more than number of NUMA".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_open_and_go_together() {
        let read = |given: &[(&str, &str)], alpha: bool| {
            let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Options::new(&given, Gates::default().with(Gate::CpuManagerPolicyAlphaOptions, alpha))
        };
        let some = read(&[("full-pcpus-only", "true"), ("distribute-cpus-across-numa", "1")], false).unwrap();
        assert!(some.full_cores_only && some.distribute_over_nodes && !some.strict_reservation);
        for (given, alpha, words) in [
            (&[("fast", "true")][..], false, "unknown CPU Manager Policy option: \"fast\""),
            (&[("full-pcpus-only", "yes")], false, "bad value for option \"full-pcpus-only\""),
            (&[("align-by-socket", "true")], false, "CPU Manager Policy Alpha-level Options not enabled"),
            (
                &[("full-pcpus-only", "true"), ("distribute-cpus-across-cores", "true")],
                true,
                "full-pcpus-only and distribute-cpus-across-cores can not be used at the same time",
            ),
        ] {
            let error = read(given, alpha).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(read(&[("align-by-socket", "true")], true).unwrap().align_by_socket);
    }
}
