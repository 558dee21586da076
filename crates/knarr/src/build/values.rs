//! Arguments with a form of their own: ports, owners, permissions, health checks. Pure.

use serde_json::{Map, Value};

use super::fault::Fault;

/// `80`, `80/udp` and `8000-8002` as `port/protocol`.
pub fn ports(text: &str) -> Result<Vec<String>, Fault> {
    let fault = || Fault::Syntax(format!("{text} is not a port: use 80, 53/udp or 8000-8010"));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| fault())?, last.parse().map_err(|_| fault())?);
    let protocol = protocol.to_lowercase();
    if first == 0 || last < first || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(fault());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `1000` and `1000:100`; a user alone is the group as well.
pub fn owner(text: &str) -> Result<(u64, u64), Fault> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |part: &str| {
        part.parse::<u32>().map(u64::from).map_err(|_| {
            Fault::Syntax(format!(
                "--chown={text}: only numbers, as in --chown=1000:1000: names are not looked up in the image"
            ))
        })
    };
    Ok((number(user)?, number(group)?))
}

/// Octal permissions.
pub fn mode(text: &str) -> Result<u32, Fault> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Fault::Syntax(format!("--chmod={text}: only octal numbers, as in --chmod=755")))
}

/// `1m30s` in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (mut left, mut total) = (text, 0.0);
    while !left.is_empty() {
        let end = left.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = left.split_at(end);
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, after) = rest.split_at(unit_end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += number.parse::<f64>().ok()? * size;
        left = after;
    }
    (!text.is_empty()).then_some(total as i64)
}

/// A health check's settings, without its test.
pub fn health(flags: &[(String, String)]) -> Result<Map<String, Value>, Fault> {
    let mut settings = Map::new();
    for (name, value) in flags {
        let (key, number) = match name.as_str() {
            "interval" => ("Interval", duration(value)),
            "timeout" => ("Timeout", duration(value)),
            "start-period" => ("StartPeriod", duration(value)),
            "start-interval" => ("StartInterval", duration(value)),
            "retries" => ("Retries", value.parse().ok()),
            _ => return Err(Fault::Syntax(format!("HEALTHCHECK has no --{name}"))),
        };
        let number = number.filter(|number| *number >= 0);
        let number = number.ok_or_else(|| Fault::Syntax(format!("--{name}={value} is not understood")))?;
        settings.insert(key.to_owned(), number.into());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("8000-8001/UDP").unwrap(), ["8000/udp", "8001/udp"]);
        for bad in ["0", "http", "9-8", "1/x", "70000"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert_eq!((owner("5").unwrap(), owner("5:6").unwrap()), ((5, 5), (5, 6)));
        assert!(owner("www-data").unwrap_err().to_string().contains("only numbers"));
        assert_eq!(mode("0755").unwrap(), 0o755);
        assert!(mode("u+x").is_err() && mode("17777").is_err());
        assert_eq!(duration("1m30s"), Some(90_000_000_000));
        assert_eq!(duration("1.5ms"), Some(1_500_000));
        assert_eq!((duration("5"), duration(""), duration("5d")), (None, None, None));
        let flags = [("interval".to_owned(), "1s".to_owned()), ("retries".to_owned(), "3".to_owned())];
        assert_eq!(
            Value::from(health(&flags).unwrap()),
            serde_json::json!({"Interval": 1_000_000_000, "Retries": 3})
        );
    }
}
