//! What resolvers put up with (`pkg/kubelet/network/dns`). Pure.

use cri::v1::DnsConfig;

const SERVERS: usize = 3;
const SEARCHES: usize = 32;
/// Characters of all of them, with spaces between.
const SEARCH_LINE: usize = 2048;
/// Characters of one: some resolvers abort at a longer one.
const SEARCH: usize = 253;

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
