//! How fast a pod may send and receive, by the annotations that upstream's network plugins know.

use crate::network::NetworkError;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// 1k and 1P, as upstream.
const LEAST: i128 = 1_000;
const MOST: i128 = 1_000_000_000_000_000;

/// Limits in bits per second; `None` for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What the pod receives.
    pub ingress: Option<u64>,
    /// What the pod sends.
    pub egress: Option<u64>,
}

impl Bandwidth {
    /// What a pod's annotations ask for.
    ///
    /// # Errors
    /// When a value is no quantity, or an unreasonable one.
    pub fn of(annotations: &[(String, String)]) -> Result<Self, NetworkError> {
        let limit = |key: &str| {
            let found = annotations.iter().find(|(name, _)| name == key);
            let parsed = found.map(|(_, value)| reasonable(value).map_err(|why| (value.clone(), why)));
            parsed
                .transpose()
                .map_err(|(value, why)| NetworkError::because(format!("annotation {key}: {value:?}: {why}")))
        };
        Ok(Self { ingress: limit(INGRESS)?, egress: limit(EGRESS)? })
    }
}

fn reasonable(text: &str) -> Result<u64, &'static str> {
    match quantity(text).ok_or("it is no quantity")? {
        value if value < LEAST => Err("resource is unreasonably small (< 1kbit)"),
        value if value > MOST => Err("resource is unreasonably large (> 1Pbit)"),
        value => u64::try_from(value).map_err(|_| "it is no quantity"),
    }
}

/// The whole number that a quantity such as `10M`, `1.5Gi` or `1e6` stands for, rounded up; `None` when it is none.
/// What is too large to hold is the largest number.
fn quantity(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut places = i32::try_from(fraction.len()).ok()?;
    let mut factor: i128 = 1;
    match suffix {
        "n" => places += 9,
        "u" => places += 6,
        "m" => places += 3,
        "" => {}
        "k" => places -= 3,
        "M" => places -= 6,
        "G" => places -= 9,
        "T" => places -= 12,
        "P" => places -= 15,
        "E" => places -= 18,
        "Ki" => factor = 1 << 10,
        "Mi" => factor = 1 << 20,
        "Gi" => factor = 1 << 30,
        "Ti" => factor = 1 << 40,
        "Pi" => factor = 1 << 50,
        "Ei" => factor = 1 << 60,
        other => places = places.checked_sub(other.strip_prefix(['e', 'E'])?.parse().ok()?)?,
    }
    let digits = all.trim_start_matches('0');
    let mut value: i128 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(i128::MAX) };
    value = value.saturating_mul(factor);
    let power = 10i128.checked_pow(places.unsigned_abs()).unwrap_or(i128::MAX);
    value = match places {
        ..0 => value.saturating_mul(power),
        0 => value,
        _ => value / power + i128::from(value % power != 0),
    };
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_as_upstream_writes_them() {
        let table = [
            ("1000", Some(1000)),
            ("10M", Some(10_000_000)),
            ("1.5Gi", Some(1_610_612_736)),
            ("1e6", Some(1_000_000)),
            ("2E3", Some(2000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1500m", Some(2)),
            (".5k", Some(500)),
            ("-1M", Some(-1_000_000)),
            ("", None),
            ("M", None),
            ("1 M", None),
            ("1MB", None),
            ("1.2.3", None),
            ("1--2", None),
        ];
        for (text, value) in table {
            assert_eq!(quantity(text), value, "{text}");
        }
    }

    #[test]
    fn limits_are_validated_as_upstream_does() {
        let of = |value: &str| Bandwidth::of(&[(EGRESS.to_owned(), value.to_owned())]);
        assert_eq!(of("1k").unwrap(), Bandwidth { ingress: None, egress: Some(1000) });
        assert_eq!(of("1P").unwrap().egress, Some(1_000_000_000_000_000));
        assert!(of("999").unwrap_err().to_string().ends_with("resource is unreasonably small (< 1kbit)"));
        assert!(of("2P").unwrap_err().to_string().ends_with("resource is unreasonably large (> 1Pbit)"));
        assert!(of("99999999999999999999999999999999999999999E").is_err());
        assert!(of("fast").unwrap_err().to_string().contains("kubernetes.io/egress-bandwidth: \"fast\""));
        assert_eq!(Bandwidth::of(&[]).unwrap(), Bandwidth::default());
    }
}
