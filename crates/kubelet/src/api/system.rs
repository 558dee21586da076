//! What the summary tells of the node beside its pods: the kubelet and the runtime by themselves, the node's network,
//! and how hard its resources are pressed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::machine::Meminfo;

/// Pages are counted in `/proc` by their size.
const PAGE: u64 = 4096;
/// The kernel's tick is a hundredth of a second for every program.
const TICK: u64 = 10_000_000;

/// How much processor time there was when somebody asked last, in nanoseconds both, by whose it is.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<&'static str, (i64, u64)>>);

impl Rates {
    /// Nanoseconds of processor time in a second, since somebody asked last.
    pub fn since(&self, whose: &'static str, now: i64, total: u64) -> Option<u64> {
        let (then, before) = self.0.lock().insert(whose, (now, total))?;
        let elapsed = u128::try_from(now.checked_sub(then)?).ok().filter(|elapsed| *elapsed > 0)?;
        u64::try_from(u128::from(total.saturating_sub(before)) * 1_000_000_000 / elapsed).ok()
    }
}

/// What a process uses.
#[derive(Debug, PartialEq)]
pub struct Process {
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Bytes.
    pub resident: u64,
    pub faults: u64,
    pub major_faults: u64,
    /// Seconds since 1970.
    pub started: u64,
}

impl Process {
    /// Of a process by its number, or `self`; `None` when it has ended.
    pub fn read(pid: &str, booted: u64) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, booted)
    }

    fn parse(stat: &str, booted: u64) -> Option<Self> {
        // The name before may have anything in it.
        let (_, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let at = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu: (at(14)? + at(15)?) * TICK,
            resident: at(24)? * PAGE,
            faults: at(10)?,
            major_faults: at(12)?,
            started: booted + at(22)? * TICK / 1_000_000_000,
        })
    }

    /// As the summary has it.
    pub fn told(&self, (name, rate): (&str, Option<u64>), since: Value, now: &str) -> Value {
        json!({
            "name": name, "startTime": since,
            "cpu": {"time": now, "usageNanoCores": rate, "usageCoreNanoSeconds": self.cpu},
            "memory": {"time": now, "usageBytes": self.resident, "workingSetBytes": self.resident,
                       "rssBytes": self.resident, "pageFaults": self.faults, "majorPageFaults": self.major_faults},
        })
    }
}

/// When the machine started, in seconds since 1970.
pub fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// What of the machine's swap is used, and what is left.
pub fn swap(now: &str) -> Value {
    let Ok(meminfo) = Meminfo::read() else { return Value::Null };
    let (all, free) = (meminfo.bytes("SwapTotal"), meminfo.bytes("SwapFree"));
    let used = all.zip(free).map(|(all, free)| all.saturating_sub(free));
    json!({"time": now, "swapUsageBytes": used, "swapAvailableBytes": free})
}

/// Whose socket the runtime's is.
pub fn server_of(endpoint: &str) -> Option<String> {
    let stream = UnixStream::connect(endpoint.strip_prefix("unix://").unwrap_or(endpoint)).ok()?;
    let pid = getsockopt(&stream, PeerCredentials).ok()?.pid();
    // One of another PID namespace has none here.
    (pid > 0).then(|| pid.to_string())
}

/// The machine's page faults, all and major, since it started.
pub fn page_faults() -> [Option<u64>; 2] {
    let stat = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let number = |name: &str| {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    [number("pgfault"), number("pgmajfault")]
}

/// How hard a resource (`cpu`, `memory`, `io`) of the machine is pressed (PSI); null where the kernel does not count.
pub fn pressure(resource: &str) -> Value {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap_or_default();
    let line = |name: &str| {
        let fields = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let number = |field: &str| {
            let (key, value) = field.split_once('=')?;
            Some((key.to_owned(), json!(value.parse::<f64>().ok()?)))
        };
        let mut numbers: Map<String, Value> = fields.split(' ').filter_map(number).collect();
        let total = fields.rsplit_once("total=").and_then(|(_, total)| total.trim().parse::<u64>().ok())?;
        // Of microseconds, in nanoseconds, as the API has them.
        numbers.insert("total".to_owned(), json!(total.saturating_mul(1000)));
        Some(Value::Object(numbers))
    };
    match (line("full"), line("some")) {
        (None, None) => Value::Null,
        (full, some) => json!({"full": full, "some": some}),
    }
}

/// The node's interfaces, but those of pods and loopback: the one that leads out first, and all of them.
pub fn network(now: &str) -> Value {
    let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    interfaces(&devices, &routes, now)
}

/// Whether an interface is a pod's, or loopback.
pub fn is_others(name: &str) -> bool {
    name == "lo" || ["veth", "docker", "nerdctl"].iter().any(|prefix| name.starts_with(prefix))
}

fn interfaces(devices: &str, routes: &str, now: &str) -> Value {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [rx, _, rx_errors, _, _, _, _, _, tx, _, tx_errors, ..] = *counters.as_slice() else {
            return None;
        };
        (!is_others(name)).then(|| {
            json!({"name": name, "rxBytes": rx, "rxErrors": rx_errors, "txBytes": tx, "txErrors": tx_errors})
        })
    };
    let all: Vec<Value> = devices.lines().filter_map(interface).collect();
    let way_out = routes.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (name, destination) = (words.next()?, words.next()?);
        (destination == "00000000").then_some(name)
    });
    let mut told = json!({"time": now, "interfaces": all});
    let first = all.iter().find(|interface| interface["name"].as_str() == way_out);
    if let (Some(Value::Object(first)), Value::Object(told)) = (first, &mut told) {
        told.extend(first.clone());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_since_somebody_asked_last() {
        let rates = Rates::default();
        assert_eq!(rates.since("node", 1_000_000_000, 5), None);
        assert_eq!(rates.since("node", 3_000_000_000, 1_000_000_005), Some(500_000_000));
        assert_eq!(rates.since("kubelet", 3_000_000_000, 9), None);
        assert_eq!(rates.since("node", 2_000_000_000, 1_000_000_006), None, "a clock that was set back");
    }

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 11 0 13 0 30 20 0 0 20 0 9 0 500 1000000 25 18446744073709551615 1";
        let read = Process::parse(stat, 1000).unwrap();
        let wanted =
            Process { cpu: 500_000_000, resident: 25 * PAGE, faults: 11, major_faults: 13, started: 1005 };
        assert_eq!(read, wanted);
        assert!(Process::read("self", 0).unwrap().resident > 0);
    }

    #[test]
    fn the_interface_that_leads_out_stands_for_the_node() {
        let devices = "Inter-| x\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\nveth1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                       ens5: 10 1 2 0 0 0 0 0 30 1 4 0 0 0 0 0\n eth9: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        let routes = "Iface Destination Gateway\neth9 0000A8C0 0\nens5 00000000 0100A8C0\n";
        let told = interfaces(devices, routes, "now");
        assert_eq!((told["name"].as_str(), told["txErrors"].as_u64()), (Some("ens5"), Some(4)));
        assert_eq!(told["interfaces"].as_array().map(Vec::len), Some(2));
        assert!(interfaces(devices, "", "now").get("name").is_none());
    }
}
