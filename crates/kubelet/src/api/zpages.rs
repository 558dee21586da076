//! `/statusz` and `/flagz` (KEP-4827, KEP-4828), as text for people.

use http::header;
use http::{HeaderMap, StatusCode};

use super::Refusal;
use crate::Shared;

/// Below the name of a page.
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";

/// Refuses whoever does not take text.
///
/// # Errors
/// 406 Not Acceptable.
pub fn accept(headers: &HeaderMap) -> Result<(), Refusal> {
    let wanted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = wanted
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let mut any = false;
    let text = kinds.any(|kind| {
        any = true;
        matches!(kind.as_str(), "*/*" | "text/*" | "text/plain" | "")
    });
    match text || !any {
        true => Ok(()),
        false => Err(Refusal(
            StatusCode::NOT_ACCEPTABLE,
            "media type not acceptable, must be: text/plain\n".to_owned(),
        )),
    }
}

/// `/statusz`
pub fn status(shared: &Shared) -> String {
    let now = shared.config.clock.now();
    let up = shared.config.clock.monotonic().saturating_sub(shared.began);
    let started = now.checked_sub(jiff::SignedDuration::try_from(up).unwrap_or_default()).unwrap_or(now);
    let up = up.as_secs();
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    let started = started.strftime("%a %b %e %H:%M:%S UTC %Y");
    let version = kinds::KUBERNETES_VERSION.trim_start_matches('v');
    let emulated = version.rsplit_once('.').map_or(version, |(short, _)| short);
    format!(
        "\nkubelet statusz\n{WARNING}\n\nStarted: {started}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\n\
         Rust version: {}\nBinary version: {version}\nEmulation version: {emulated}\nNode: {}\n\n",
        env!("CARGO_PKG_RUST_VERSION"),
        shared.config.node_name
    )
}

/// `/flagz`: what was given on the command line.
pub fn flags(shared: &Shared) -> String {
    let lines = shared.config.flags.iter().map(|(name, value)| format!("{name}={value}\n"));
    format!("\nkubelet flagz\n{WARNING}\n\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_told() {
        let with = |accept: &str| {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            super::accept(&headers).is_ok()
        };
        for (accept, fine) in [
            ("", true),
            ("*/*", true),
            ("text/plain; charset=utf-8", true),
            ("text/html, text/*;q=0.5", true),
            ("application/json", false),
        ] {
            assert_eq!(with(accept), fine, "{accept:?}");
        }
    }
}
