//! Memory that classes of pods leave to those above them (`qosReserved`, feature gate `QOSReserved`): a part of what these
//! ask for, whether they use it or not. Pure.

use std::collections::BTreeMap;

use super::resources::Asked;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Of what is asked for.
    pub percent: i64,
    /// Bytes that all pods may have.
    pub allocatable: i64,
}

impl Reserve {
    /// The bytes that pods of the class Burstable may have together, and those of the class BestEffort.
    pub fn most(&self, asked: &Asked) -> [i64; 2] {
        let part = |bytes: i64| bytes.saturating_mul(self.percent) / 100;
        let burstable = self.allocatable.saturating_sub(part(asked.guaranteed_memory));
        // Pods may ask for more than there is, as static ones do: less than nothing would be no limit at all.
        [burstable, burstable.saturating_sub(part(asked.burstable_memory))].map(|bytes| bytes.max(0))
    }
}

/// The percentage for memory, if there is one.
///
/// # Errors
/// In upstream's words: what is no percentage, and other resources.
pub fn percent(reserved: &BTreeMap<String, String>) -> Result<Option<i64>, String> {
    let mut found = None;
    for (name, text) in reserved {
        if name != "memory" {
            return Err(format!("cannot reserve {name:?} resource"));
        }
        let failed =
            |why: String| format!("failed to parse percentage {text:?} for {name:?} resource: {why}");
        let Some(number) = text.strip_suffix('%') else {
            return Err(failed(format!("percentage expected, got '{text}'")));
        };
        let number: i64 =
            number.parse().map_err(|_| failed(format!("invalid number in percentage '{text}'")))?;
        if !(0..=100).contains(&number) {
            return Err(failed("percentage must be between 0 and 100".to_owned()));
        }
        found = Some(number);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_leaves_a_part_to_those_above_it() {
        let asked = Asked { burstable_cpu: 0, burstable_memory: 200, guaranteed_memory: 300 };
        assert_eq!(Reserve { percent: 50, allocatable: 1000 }.most(&asked), [850, 750]);
        assert_eq!(Reserve { percent: 0, allocatable: 1000 }.most(&asked), [1000, 1000]);
        assert_eq!(Reserve { percent: 100, allocatable: 400 }.most(&asked), [100, 0]);
    }

    #[test]
    fn only_a_percentage_of_memory_is_understood() {
        let of = |name: &str, text: &str| percent(&BTreeMap::from([(name.to_owned(), text.to_owned())]));
        assert_eq!(of("memory", "50%"), Ok(Some(50)));
        assert_eq!(percent(&BTreeMap::new()), Ok(None));
        assert_eq!(of("cpu", "5%"), Err("cannot reserve \"cpu\" resource".to_owned()));
        for (text, why) in [
            ("5", "percentage expected, got '5'"),
            ("x%", "invalid number in percentage 'x%'"),
            ("101%", "percentage must be between 0 and 100"),
        ] {
            let told = format!("failed to parse percentage {text:?} for \"memory\" resource: {why}");
            assert_eq!(of("memory", text), Err(told));
        }
    }
}
