//! Addresses, networks and URLs (`apiserver/pkg/cel/library`).

use std::net::IpAddr;
use std::sync::Arc;

use super::Answer;
use crate::EvalError;
use crate::value::{Cidr, Map, Value};

/// Calls a function of these; `None` for others.
pub fn call(name: &str, args: &[Value]) -> Option<Answer> {
    use Value::{Bool, Text};
    Some(match (name, args) {
        ("ip", [Text(text)]) => ip(text).map(Value::Ip),
        ("isIP", [Text(text)]) => Ok(Bool(ip(text).is_ok())),
        ("ip.isCanonical", [Text(text)]) => ip(text).map(|address| Bool(address.to_string() == **text)),
        ("cidr", [Text(text)]) => cidr(text).map(Value::Cidr),
        ("isCIDR", [Text(text)]) => Ok(Bool(cidr(text).is_ok())),
        ("url", [Text(text)]) => url(text).map(|url| Value::Url(Arc::new(url))),
        ("isURL", [Text(text)]) => Ok(Bool(url(text).is_ok())),
        (_, [Value::Ip(address)]) => return of_ip(name, address).map(Ok),
        (_, [Value::Cidr(network), rest @ ..]) => return of_cidr(name, network, rest),
        (_, [Value::Url(url)]) => return of_url(name, url).map(Ok),
        _ => return None,
    })
}

/// An address, as Go's `netip` reads it, but no zone and none of IPv4 in IPv6.
fn ip(text: &str) -> Result<IpAddr, EvalError> {
    let bad = |why: String| EvalError::Argument(why);
    let whole = "IP Address";
    let (bare, zone) = text.split_once('%').map_or((text, None), |(bare, zone)| (bare, Some(zone)));
    let address: IpAddr = bare.parse().map_err(|_| {
        bad(format!(
            "{whole} {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))
    })?;
    if zone.is_some() {
        return Err(bad(format!("IP address {text:?} with zone value is not allowed")));
    }
    match is_mapped(&address) {
        true => Err(bad(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))),
        false => Ok(address),
    }
}

fn is_mapped(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(long) if long.to_ipv4_mapped().is_some())
}

fn cidr(text: &str) -> Result<Cidr, EvalError> {
    let bad = |why: &str| {
        let twice = "network address parse error during conversion from string";
        EvalError::Argument(format!("{twice}: {twice}: netip.ParsePrefix({text:?}): {why}"))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| bad("no '/'"))?;
    let address: IpAddr =
        address.parse().map_err(|_| bad(&format!("ParseAddr({address:?}): unable to parse IP")))?;
    let is_plain = !bits.is_empty()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let length: u8 = bits
        .parse()
        .ok()
        .filter(|_| is_plain)
        .ok_or_else(|| bad(&format!("bad bits after slash: {bits:?}")))?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        return Err(bad("prefix length out of range"));
    }
    if is_mapped(&address) {
        let why = format!("IPv4-mapped IPv6 address {text:?} is not allowed");
        let at = "network address parse error during conversion from string";
        return Err(EvalError::Argument(format!("{at}: {why}")));
    }
    Ok(Cidr { address, length })
}

fn of_ip(name: &str, address: &IpAddr) -> Option<Value> {
    use Value::Bool;
    let is = |of_short: bool, of_long: bool| if address.is_ipv4() { of_short } else { of_long };
    let (short, long) = match address {
        IpAddr::V4(short) => (Some(short), None),
        IpAddr::V6(long) => (None, Some(long)),
    };
    let starts = |mask: u16, wanted: u16| long.is_some_and(|long| long.segments()[0] & mask == wanted);
    let group = |octets: &[u8]| short.is_some_and(|short| short.octets().starts_with(octets));
    let is_link_local = is(group(&[169, 254]), starts(0xffc0, 0xfe80));
    Some(match name {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Bool(address.is_unspecified()),
        "isLoopback" => Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Bool(is(group(&[224, 0, 0]), starts(0xff0f, 0xff02))),
        "isLinkLocalUnicast" => Bool(is_link_local),
        "isGlobalUnicast" => {
            let is_broadcast = short.is_some_and(std::net::Ipv4Addr::is_broadcast);
            let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            Bool(!(is_broadcast || is_special || is_link_local))
        }
        "string" => Value::text(&address.to_string()),
        _ => return None,
    })
}

impl Cidr {
    fn bits(&self) -> (u128, u32) {
        match self.address {
            IpAddr::V4(short) => (u128::from(u32::from(short)), 32),
            IpAddr::V6(long) => (u128::from(long), 128),
        }
    }

    fn cut(bits: u128, width: u32, length: u8) -> u128 {
        let rest = width.saturating_sub(u32::from(length));
        bits.checked_shr(rest).unwrap_or(0).checked_shl(rest).unwrap_or(0)
    }

    fn contains(&self, address: &IpAddr) -> bool {
        let other = Self { address: *address, length: self.length };
        let ((own, width), (bits, others)) = (self.bits(), other.bits());
        width == others && Self::cut(own, width, self.length) == Self::cut(bits, width, self.length)
    }

    fn masked(&self) -> Self {
        let (bits, width) = self.bits();
        let cut = Self::cut(bits, width, self.length);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::from(u32::try_from(cut).unwrap_or_default().to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(cut.to_be_bytes()),
        };
        Self { address, length: self.length }
    }
}

fn of_cidr(name: &str, network: &Cidr, args: &[Value]) -> Option<Answer> {
    use Value::{Bool, Text};
    let holds = |other: &Cidr| Bool(network.contains(&other.address) && network.length <= other.length);
    Some(match (name, args) {
        ("containsIP", [Value::Ip(address)]) => Ok(Bool(network.contains(address))),
        ("containsIP", [Text(text)]) => ip(text).map(|address| Bool(network.contains(&address))),
        ("containsCIDR", [Value::Cidr(other)]) => Ok(holds(other)),
        ("containsCIDR", [Text(text)]) => cidr(text).map(|other| holds(&other)),
        ("ip", []) => Ok(Value::Ip(network.address)),
        ("masked", []) => Ok(Value::Cidr(network.masked())),
        ("prefixLength", []) => Ok(Value::Int(i64::from(network.length))),
        ("string", []) => Ok(Value::text(&network.to_string())),
        _ => return None,
    })
}

/// A URL with a scheme, or a path from the root, in parts as they were written (Go's `url.ParseRequestURI`).
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

fn url(text: &str) -> Result<Url, EvalError> {
    let bad = |why: &str| {
        let at = "URL parse error during conversion from string";
        EvalError::Argument(format!("{at}: parse {text:?}: {why}"))
    };
    if text.is_empty() {
        return Err(bad("empty url"));
    }
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(bad("net/url: invalid control character in URL"));
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let (scheme, rest) = match text.split_once(':') {
        Some(("", _)) => return Err(bad("missing protocol scheme")),
        Some((scheme, rest))
            if scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme.bytes().all(letter) =>
        {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ => (String::new(), text),
    };
    if !rest.starts_with('/') && scheme.is_empty() {
        return Err(bad("invalid URI for request"));
    }
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // Without a slash it is opaque, and has neither host nor path.
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
            rest.find('/').map_or((rest, ""), |at| rest.split_at(at))
        }
        _ if rest.starts_with('/') => ("", rest),
        _ => ("", ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = split_port(host);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(&format!("invalid port {:?} after host", format!(":{port}"))));
    }
    if name.contains(' ') {
        return Err(bad("invalid character \" \" in host name"));
    }
    if let Some(escape) = bad_escape(path) {
        return Err(bad(&format!("invalid URL escape {escape:?}")));
    }
    Ok(Url { scheme, host: host.to_owned(), path: escaped(path), query: query.to_owned() })
}

fn bad_escape(path: &str) -> Option<&str> {
    path.match_indices('%').find_map(|(at, _)| {
        let digits = path.get(at + 1..at + 3).unwrap_or_default();
        let is_good = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (!is_good).then(|| path.get(at..(at + 3).min(path.len())).unwrap_or("%"))
    })
}

/// What may not stand in a path as it is, is escaped.
fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Host and port; brackets of IPv6 stay with the host.
fn split_port(host: &str) -> (&str, &str) {
    let after = host.rfind(']').map_or(0, |at| at + 1);
    match host.get(after..).and_then(|rest| rest.rfind(':')) {
        Some(at) => (host.get(..after + at).unwrap_or(host), host.get(after + at + 1..).unwrap_or_default()),
        None => (host, ""),
    }
}

fn of_url(name: &str, url: &Url) -> Option<Value> {
    let (host, port) = split_port(&url.host);
    Some(match name {
        "getScheme" => Value::text(&url.scheme),
        "getHost" => Value::text(&url.host),
        "getHostname" => Value::text(host.trim_start_matches('[').trim_end_matches(']')),
        "getPort" => Value::text(port),
        "getEscapedPath" => Value::text(&url.path),
        "getQuery" => query(&url.query),
        _ => return None,
    })
}

fn query(query: &str) -> Value {
    let mut entries: Vec<(Value, Vec<Value>)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (Some(name), Some(value)) = (unescaped(name), unescaped(value)) else { continue };
        let (name, value) = (Value::text(&name), Value::text(&value));
        match entries.iter_mut().find(|(known, _)| known.equals(&name)) {
            Some((_, values)) => values.push(value),
            None => entries.push((name, vec![value])),
        }
    }
    let entries = entries.into_iter().map(|(name, values)| (name, Value::List(Arc::new(values))));
    Value::Map(Arc::new(Map { entries: entries.collect(), is_open: false }))
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}
