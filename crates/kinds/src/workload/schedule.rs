//! When a `CronJob` runs: schedules of five fields or a descriptor, and names of time zones. The words are those of the
//! parser that upstream uses.

use super::durations;

/// Every time zone by name, as the IANA has them.
const ZONES: &str = include_str!("zones.txt");

/// What is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        let Some((zone, fields)) = schedule.split_once(' ') else {
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
        };
        let zone = zone.split_once('=').map_or(zone, |(_, zone)| zone);
        location(zone).map_err(|why| format!("provided bad location {zone}: {why}"))?;
        rest = fields.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        let found = fields.join(" ");
        return Err(format!("expected exactly 5 fields, found {}: [{found}]", fields.len()));
    };
    field(minute, 0, 59, &[])?;
    field(hour, 0, 23, &[])?;
    field(day, 1, 31, &[])?;
    field(month, 1, 12, &MONTHS)?;
    field(weekday, 0, 6, &DAYS)
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

fn descriptor(text: &str) -> Result<(), String> {
    let known = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if known.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(period) => {
            durations::check(period).map_err(|why| format!("failed to parse duration {text}: {why}"))
        }
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// One of the five fields: ranges with steps, parted by commas. The first of its `names` stands for `least`.
fn field(text: &str, least: u64, most: u64, names: &[&str]) -> Result<(), String> {
    text.split(',').filter(|range| !range.is_empty()).try_for_each(|each| range(each, least, most, names))
}

fn range(text: &str, least: u64, most: u64, names: &[&str]) -> Result<(), String> {
    let mut parts = text.split('/');
    let (span, step, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let bounds: Vec<&str> = span.split('-').collect();
    let number = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named.and_then(|at| u64::try_from(at).ok()) {
            Some(at) => Ok(least + at),
            None => whole(text),
        }
    };
    let (from, mut to) = match bounds.as_slice() {
        ["*" | "?", ..] => (least, most),
        [one] => {
            let one = number(one)?;
            (one, one)
        }
        [from, to] => (number(from)?, number(to)?),
        [from, ..] => {
            number(from)?;
            return Err(format!("too many hyphens: {text}"));
        }
        [] => return Ok(()),
    };
    let mut width = 1;
    if let Some(step) = step {
        if more.is_some() {
            return Err(format!("too many slashes: {text}"));
        }
        width = whole(step)?;
        // "N/step" is from N on.
        if bounds.len() == 1 {
            to = most;
        }
    }
    if from < least {
        return Err(format!("beginning of range ({from}) below minimum ({least}): {text}"));
    }
    if to > most {
        return Err(format!("end of range ({to}) above maximum ({most}): {text}"));
    }
    if from > to {
        return Err(format!("beginning of range ({from}) beyond end of range ({to}): {text}"));
    }
    if width == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

/// A number as Go reads it, which must not be negative.
fn whole(text: &str) -> Result<u64, String> {
    let number = super::atoi(text).map_err(|why| format!("failed to parse int from {text}: {why}"))?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

/// Whether there is a time zone of this name.
pub(super) fn location(name: &str) -> Result<(), String> {
    let known = matches!(name, "" | "UTC" | "Local") || ZONES.lines().any(|zone| zone == name);
    if known { Ok(()) } else { Err(format!("unknown time zone {name}")) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for fine in [
            "*/5 * * * *",
            "0 0 1,15 JAN-mar 0/2",
            "? 1-3/2 * * sun",
            "@hourly",
            "@every 1h30m",
            "TZ=Europe/Oslo 1 2 3 4 5",
            "CRON_TZ=UTC @daily",
            ", * * * *",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (text, told) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("-1 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
            ("@every 5x", "failed to parse duration @every 5x: time: unknown unit \"x\" in duration \"5x\""),
            ("TZ=Nowhere * * * * *", "provided bad location Nowhere: unknown time zone Nowhere"),
            ("TZ=0", "invalid schedule format: runtime error: slice bounds out of range [:-1]"),
        ] {
            assert_eq!(check(text), Err(told.to_owned()), "{text}");
        }
    }
}
