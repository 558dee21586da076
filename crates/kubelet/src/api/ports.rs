//! Which ports a request for port forwarding names: it must where its protocol cannot.

use http::HeaderMap;
use http::header::{HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

use super::Refusal;

/// How a subprotocol begins that has SPDY inside.
const TUNNEL: &str = "SPDY/3.1+";

/// The ports of a request; none of one whose protocol names them later.
///
/// # Errors
/// 400, with upstream's words.
pub(super) fn asked(headers: &HeaderMap, params: &[(String, String)]) -> Result<Vec<i32>, Refusal> {
    let is_websocket = values(headers, &UPGRADE).any(|value| value.eq_ignore_ascii_case("websocket"));
    if !is_websocket || values(headers, &SEC_WEBSOCKET_PROTOCOL).any(|value| value.starts_with(TUNNEL)) {
        return Ok(Vec::new());
    }
    let named: Vec<&str> =
        params.iter().filter(|(key, _)| key == "port").map(|(_, value)| value.as_str()).collect();
    if named.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    let mut ports = Vec::new();
    for list in named {
        if list.is_empty() {
            return Err(Refusal::bad_request("query parameter \"port\" cannot be empty"));
        }
        for text in list.split(',') {
            ports.push(port(text).map_err(|why| {
                Refusal::bad_request(match why {
                    Wrong::Zero => format!("port {list:?} must be > 0"),
                    Wrong::Number(why) => {
                        format!(
                            "unable to parse {list:?} as a port: strconv.ParseUint: parsing {text:?}: {why}"
                        )
                    }
                })
            })?);
        }
    }
    Ok(ports)
}

/// The members of a header that is a list.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

enum Wrong {
    Zero,
    Number(&'static str),
}

fn port(text: &str) -> Result<i32, Wrong> {
    if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Err(Wrong::Number("invalid syntax"));
    }
    match text.parse::<u16>() {
        Ok(0) => Err(Wrong::Zero),
        Ok(port) => Ok(port.into()),
        Err(_) => Err(Wrong::Number("value out of range")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ports(protocol: &'static str, named: &[&str]) -> Result<Vec<i32>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let params: Vec<_> = named.iter().map(|ports| ("port".to_owned(), (*ports).to_owned())).collect();
        asked(&headers, &params).map_err(|refusal| refusal.1)
    }

    #[test]
    fn channels_need_ports_and_a_tunnel_none() {
        let channels = "v4.channel.k8s.io";
        assert_eq!(ports(channels, &["80,443", "53"]), Ok(vec![80, 443, 53]));
        assert_eq!(ports("SPDY/3.1+portforward.k8s.io", &[]), Ok(Vec::new()));
        for (named, why) in [
            (&[][..], "query parameter \"port\" is required"),
            (&[""], "query parameter \"port\" cannot be empty"),
            (&["80,0"], "port \"80,0\" must be > 0"),
            (&["1,x"], "unable to parse \"1,x\" as a port: strconv.ParseUint: parsing \"x\": invalid syntax"),
            (
                &["65536"],
                "unable to parse \"65536\" as a port: strconv.ParseUint: parsing \"65536\": value out of range",
            ),
        ] {
            assert_eq!(ports(channels, named), Err(why.to_owned()), "{named:?}");
        }
    }
}
