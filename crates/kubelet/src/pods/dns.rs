//! How names are resolved inside a pod, and what resolvers put up with (`pkg/kubelet/network/dns`). Pure.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use super::config::NodeConfig;
use super::spec::PodExt;

const SERVERS: usize = 3;
const SEARCHES: usize = 32;
/// Characters of all of them, with spaces between.
const SEARCH_LINE: usize = 2048;
/// Characters of one: some resolvers abort at a longer one.
const SEARCH: usize = 253;

/// What a resolver's configuration says: servers add up, the last list of search paths counts, and so does the last
/// value of each option.
fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                let searches = words.filter(|search| *search != ".");
                config.searches =
                    searches.map(|search| search.strip_suffix('.').unwrap_or(search).to_owned()).collect();
            }
            Some("options") => words.for_each(|option| set(&mut config.options, option.to_owned())),
            _ => {}
        }
    }
    config
}

/// Sets an option, `NAME` or `NAME:VALUE`.
fn set(options: &mut Vec<String>, option: String) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    options.retain(|known| name(known) != name(&option));
    options.push(option);
}

fn add(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// How names are resolved inside the pod.
pub fn of_pod(pod: &Pod, node: &NodeConfig<'_>) -> DnsConfig {
    let policy = pod.spec().and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let of_node = node.resolv_conf.map(parse);
    let is_cluster = match policy {
        "ClusterFirst" => !pod.host_network(),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if is_cluster && !node.cluster_dns.is_empty() => DnsConfig {
            servers: node.cluster_dns.iter().map(ToString::to_string).collect(),
            searches: searches(pod, node.cluster_domain, of_node.unwrap_or_default().searches),
            options: vec!["ndots:5".to_owned()],
        },
        _ => of_node.unwrap_or_else(|| nobody(&node.ips)),
    };
    if let Some(more) = pod.spec().and_then(|spec| spec.dns_config.as_ref()) {
        extend(&mut config, more);
    }
    config
}

fn searches(pod: &Pod, domain: &str, of_node: Vec<String>) -> Vec<String> {
    if domain.is_empty() {
        return of_node;
    }
    let mut searches =
        vec![format!("{}.svc.{domain}", pod.namespace()), format!("svc.{domain}"), domain.to_owned()];
    add(&mut searches, of_node);
    searches
}

/// No names are resolved: as a resolver without servers does, the pod asks itself.
fn nobody(node: &[String]) -> DnsConfig {
    let own = |ip: &String| if ip.contains(':') { "::1" } else { "127.0.0.1" }.to_owned();
    let mut servers: Vec<String> = node.iter().map(own).collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    DnsConfig { servers, searches: vec![".".to_owned()], options: Vec::new() }
}

fn extend(config: &mut DnsConfig, more: &PodDNSConfig) {
    let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    add(&mut config.servers, all(&more.nameservers));
    add(&mut config.searches, all(&more.searches));
    for option in more.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        let value = option.value.as_deref().filter(|value| !value.is_empty());
        set(&mut config.options, value.map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
    }
}

/// Leaves out what is too much; says of each kind what is left.
pub fn fit(config: &mut DnsConfig) -> Vec<String> {
    let mut told = Vec::new();
    let searches = fitting(&config.searches);
    if searches.len() < config.searches.len() {
        config.searches = searches;
        let left = config.searches.join(" ");
        told.push(format!("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {left}"));
    }
    if config.servers.len() > SERVERS {
        config.servers.truncate(SERVERS);
        let left = config.servers.join(" ");
        told.push(format!("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {left}"));
    }
    told
}

fn fitting(searches: &[String]) -> Vec<String> {
    let short = searches.iter().take(SEARCHES).filter(|search| search.len() <= SEARCH);
    let mut length = 0;
    let within = short.take_while(|search| {
        length += search.len() + usize::from(length > 0);
        length <= SEARCH_LINE
    });
    within.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: usize, searches: Vec<String>) -> DnsConfig {
        let servers = (1..=servers).map(|number| format!("10.0.0.{number}")).collect();
        DnsConfig { servers, searches, options: Vec::new() }
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let mut few = config(3, vec!["a".repeat(253), "b".to_owned()]);
        assert_eq!(fit(&mut few), Vec::<String>::new());
        assert_eq!((few.servers.len(), few.searches.len()), (3, 2));
    }

    #[test]
    fn a_fourth_server_is_left_out_and_told_of() {
        let mut many = config(4, Vec::new());
        let told = fit(&mut many);
        assert_eq!(many.servers, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert!(told.len() == 1 && told[0].ends_with("line is: 10.0.0.1 10.0.0.2 10.0.0.3"), "{told:?}");
    }

    #[test]
    fn search_paths_are_bounded_in_number_and_length() {
        for (given, left) in [
            (vec!["a".to_owned(); 33], 32),
            (vec!["a".repeat(254), "b".to_owned()], 1),
            // Eight of these with spaces between are 2007 characters, nine would be 2258.
            (vec!["c".repeat(250); 9], 8),
        ] {
            let mut much = config(1, given);
            assert_eq!(fit(&mut much).len(), 1);
            assert_eq!(much.searches.len(), left);
        }
    }
}
