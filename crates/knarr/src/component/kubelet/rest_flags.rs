//! The rest of the flags of upstream's kubelet, as a table: they stand for fields of its configuration that hardly
//! anybody sets by a flag, or for what this kubelet has no use for. All of them are taken, so that it starts with what
//! another was started with; what has no effect is said.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::flags::merge;

/// What is behind a flag's name.
#[derive(Clone, Copy)]
enum Form {
    Text,
    /// Also without a value.
    Bool,
    /// `NAME=VALUE,…`
    Pairs,
}

use Form::{Bool, Pairs, Text};

/// Flags of fields, whose path has dots.
const FIELDS: &[(&str, Form, &str)] = &[
    ("authentication-token-webhook-cache-ttl", Text, "authentication.webhook.cacheTTL"),
    ("authorization-webhook-cache-authorized-ttl", Text, "authorization.webhook.cacheAuthorizedTTL"),
    ("authorization-webhook-cache-unauthorized-ttl", Text, "authorization.webhook.cacheUnauthorizedTTL"),
    ("cgroup-driver", Text, "cgroupDriver"),
    ("cgroups-per-qos", Bool, "cgroupsPerQOS"),
    ("contention-profiling", Bool, "enableContentionProfiling"),
    ("cpu-manager-reconcile-period", Text, "cpuManagerReconcilePeriod"),
    ("enable-controller-attach-detach", Bool, "enableControllerAttachDetach"),
    ("enable-server", Bool, "enableServer"),
    ("fail-cgroupv1", Bool, "failCgroupV1"),
    ("hairpin-mode", Text, "hairpinMode"),
    ("kernel-memcg-notification", Bool, "kernelMemcgNotification"),
    ("kube-api-content-type", Text, "contentType"),
    ("kubelet-cgroups", Text, "kubeletCgroups"),
    ("log-flush-frequency", Text, "logging.flushFrequency"),
    ("make-iptables-util-chains", Bool, "makeIPTablesUtilChains"),
    ("pod-cidr", Text, "podCIDR"),
    ("qos-reserved", Pairs, "qosReserved"),
    ("streaming-connection-idle-timeout", Text, "streamingConnectionIdleTimeout"),
    ("system-cgroups", Text, "systemCgroups"),
    ("volume-plugin-dir", Text, "volumePluginDir"),
    ("volume-stats-agg-period", Text, "volumeStatsAggPeriod"),
];

/// Flags without effect: of cAdvisor, of Go's logs, and what upstream will take away.
const IDLE: &[(&str, Form)] = &[
    ("application-metrics-count-limit", Text),
    ("boot-id-file", Text),
    ("container-hints", Text),
    ("containerd", Text),
    ("containerd-namespace", Text),
    ("enable-load-reader", Bool),
    ("event-storage-age-limit", Text),
    ("event-storage-event-limit", Text),
    ("experimental-allocatable-ignore-eviction", Bool),
    ("experimental-mounter-path", Text),
    ("global-housekeeping-interval", Text),
    ("housekeeping-interval", Text),
    ("log-cadvisor-usage", Bool),
    ("log-json-info-buffer-size", Text),
    ("log-json-split-stream", Bool),
    ("log-text-info-buffer-size", Text),
    ("log-text-split-stream", Bool),
    ("machine-id-file", Text),
    ("max-housekeeping-interval", Text),
    ("maximum-dead-containers", Text),
    ("maximum-dead-containers-per-container", Text),
    ("minimum-container-ttl-duration", Text),
    ("runonce", Bool),
    ("runtime-cgroups", Text),
    ("storage-driver-buffer-duration", Text),
    ("storage-driver-db", Text),
    ("storage-driver-host", Text),
    ("storage-driver-password", Text),
    ("storage-driver-secure", Bool),
    ("storage-driver-table", Text),
    ("storage-driver-user", Text),
    ("vmodule", Text),
];

/// What was given of them, by the flag's name.
#[derive(Debug, Default, Serialize)]
pub struct Rest(BTreeMap<&'static str, Value>);

impl Rest {
    /// What was given, under the names of KubeletConfiguration.
    pub fn overlay(&self) -> Map<String, Value> {
        let mut overlay = Map::new();
        for (name, _, path) in FIELDS {
            let Some(value) = self.0.get(name) else { continue };
            let whole = path.rsplit('.').fold(value.clone(), |value, step| json!({step: value}));
            if let Value::Object(whole) = whole {
                merge(&mut overlay, whole);
            }
        }
        overlay
    }

    /// The given ones that have no effect.
    pub fn idle(&self) -> Vec<String> {
        let given = IDLE.iter().filter(|(name, _)| self.0.contains_key(name));
        given.map(|(name, _)| format!("--{name}")).collect()
    }

    fn flags() -> impl Iterator<Item = (&'static str, Form)> {
        FIELDS.iter().map(|(name, form, _)| (*name, *form)).chain(IDLE.iter().copied())
    }
}

impl Args for Rest {
    fn augment_args(command: Command) -> Command {
        Self::flags().fold(command, |command, (name, form)| {
            // Those of the cluster's administrators are told of in the documentation of the configuration.
            let flag = Arg::new(name).long(name).hide(true).allow_hyphen_values(true);
            command.arg(match form {
                Bool => flag
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_parser(clap::value_parser!(bool)),
                Text | Pairs => flag,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Rest {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut rest = Self::default();
        rest.update_from_arg_matches(matches)?;
        Ok(rest)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (name, form) in Self::flags() {
            let value = match form {
                Bool => matches.get_one::<bool>(name).map(|value| Value::Bool(*value)),
                Text => matches.get_one::<String>(name).map(|text| Value::String(text.clone())),
                Pairs => matches.get_one::<String>(name).map(|text| pairs(text)).transpose()?,
            };
            self.0.extend(value.map(|value| (name, value)));
        }
        Ok(())
    }
}

fn pairs(text: &str) -> Result<Value, clap::Error> {
    let pair = |text: &str| super::flags::label(text).map(|(key, value)| (key, Value::String(value)));
    let pairs = text.split(',').map(pair).collect::<Result<Map<_, _>, _>>();
    let invalid = |why| clap::Error::raw(clap::error::ErrorKind::ValueValidation, why);
    pairs.map(Value::Object).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        rest: Rest,
    }

    #[test]
    fn flags_are_fields_wherever_they_are() {
        let words = "kubelet --cgroup-driver cgroupfs --cgroups-per-qos=false --enable-server \
                     --authentication-token-webhook-cache-ttl=1m --qos-reserved memory=50% --maximum-dead-containers -1 \
                     --log-flush-frequency 1s";
        let rest = Only::parse_from(words.split_whitespace()).rest;
        assert_eq!(
            Value::Object(rest.overlay()),
            json!({"cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enableServer": true,
                "authentication": {"webhook": {"cacheTTL": "1m"}}, "qosReserved": {"memory": "50%"},
                "logging": {"flushFrequency": "1s"}})
        );
        assert_eq!(rest.idle(), ["--maximum-dead-containers"]);
        assert!(Only::try_parse_from(["kubelet", "--qos-reserved", "memory"]).is_err());
    }
}
