//! What every object's metadata must be, whatever its kind.

use schema::object::Object;

/// What a name must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: at most 253 characters, the rule of most kinds.
    Subdomain,
    /// RFC 1123 label: at most 63 characters.
    Label,
    /// RFC 1035 label: begins with a letter (Services).
    Label1035,
    /// What fits into a path segment (RBAC kinds).
    PathSegment,
}

/// The time since the object was made, as `kubectl get` shows it.
pub fn age(object: &Object, now: i64) -> String {
    match object.creation_timestamp() {
        Some(made) => duration(now - made.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration as `k8s.io/apimachinery/pkg/util/duration.HumanDuration` prints it.
pub fn duration(seconds: i64) -> String {
    let two = |big: i64, small: i64, big_unit: char, small_unit: char| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=599 => two(minutes, seconds % 60, 'm', 's'),
        600..=10_799 => format!("{minutes}m"),
        10_800..=28_799 => two(hours, minutes % 60, 'h', 'm'),
        28_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 => two(days, hours % 24, 'd', 'h'),
        691_200..=63_071_999 => format!("{days}d"),
        63_072_000..=252_287_999 => two(days / 365, days % 365, 'y', 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_as_upstreams() {
        let cases = [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (40_000, "11h"),
            (200_000, "2d7h"),
            (700_000, "8d"),
            (70_000_000, "2y80d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
