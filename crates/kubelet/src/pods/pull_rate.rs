//! How many pulls may begin in a while (`registryPullQPS`, `registryBurst`), where somebody asks for that: upstream's
//! kubelet always has a rate, and this one none until it is named.

use client::rate::Rate;

use crate::Configuration;

/// Upstream's rate and burst: whoever names others wants to have them.
const USUAL: (i32, i32) = (5, 10);
/// What a pull is refused with.
pub const EXCEEDED: &str = "pull QPS exceeded";

/// The rate that a configuration names; 0 is no limit.
pub fn named(configuration: &Configuration) -> Option<Rate> {
    let fields = &configuration.fields;
    let is_named = configuration.named.contains("registryPullQPS")
        || (fields.registry_pull_qps, fields.registry_burst) != USUAL;
    let burst = u32::try_from(fields.registry_burst).unwrap_or(0);
    (is_named && fields.registry_pull_qps > 0).then(|| Rate::new(f64::from(fields.registry_pull_qps), burst))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_is_a_rate_once_it_is_named() {
        let rate = |qps: i32| {
            let flags = serde_json::Map::from_iter([("registryPullQPS".to_owned(), json!(qps))]);
            named(&Configuration::merge(&[], flags).unwrap().0)
        };
        assert!(named(&Configuration::defaults().unwrap()).is_none() && rate(0).is_none());
        assert!(rate(1).is_some());
    }
}
