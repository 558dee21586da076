//! Durations as Go writes them, only as far as whether they are any.

const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];

/// What is wrong with `1h30m`, in Go's words.
pub(super) fn check(text: &str) -> Result<(), String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let before = digits(rest);
        let after = rest.get(before..).unwrap_or_default();
        let fraction = after.strip_prefix('.').map_or(0, digits);
        let dotted = after.starts_with('.');
        if before == 0 && fraction == 0 {
            return Err(invalid());
        }
        let number = before + usize::from(dotted) + fraction;
        let unit_on = rest.get(number..).unwrap_or_default();
        let end = unit_on.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(unit_on.len());
        let (unit, next) = unit_on.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        if !UNITS.contains(&unit) {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        }
        rest = next;
    }
    Ok(())
}
