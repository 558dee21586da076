//! What becomes of many events about one thing, as upstream's correlator has it (`client-go/tools/record`): the same one
//! again only raises a count, those that differ in their words alone become one, and a source that does not stop is not
//! written down any more. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Occurrence;
use crate::rate::Rate;

/// So many events of one source about one object at once, and then one in five minutes.
const BURST: u32 = 25;
const PER_SECOND: f64 = 1.0 / 300.0;
/// From so many different messages on they become one, as long as no pause between them is longer.
const SIMILAR: usize = 10;
const PAUSE: Duration = Duration::from_secs(600);
/// How many different things are remembered, of each kind.
const REMEMBERED: usize = 4096;
const COMBINED: &str = "(combined from similar events): ";

/// An event that was seen before, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub name: String,
    pub count: i32,
    pub first: Time,
}

/// Messages that came lately, and when the last one did.
type Similar = (BTreeSet<String>, Duration);

/// See the module.
#[derive(Default)]
pub struct Correlator {
    known: HashMap<String, Known>,
    /// Without these all are written; the same one again raises a count all the same.
    limits: Option<(HashMap<String, Similar>, HashMap<String, Rate>)>,
}

impl Correlator {
    /// One that bounds what is written.
    pub fn bounded() -> Self {
        Self { limits: Some(Default::default()), ..Self::default() }
    }

    /// Looks at one more event: as which it is written, or `None` if it is not. What it says may change. An event that
    /// is new is called `name`, and was first at `wall`.
    pub fn observe(
        &mut self,
        event: &mut Occurrence,
        name: &str,
        wall: &Time,
        now: Duration,
    ) -> Option<Known> {
        let source = source(event);
        let place = event.about.field_path.as_deref().unwrap_or_default();
        let mut key = format!("{source} {place}\n{}\n{}", event.reason, event.message);
        if let Some((similar, _)) = &mut self.limits {
            let alike = format!("{source}\n{}", event.reason);
            if is_one_too_many(room(similar).entry(alike.clone()).or_default(), &event.message, now) {
                event.message.insert_str(0, COMBINED);
                key = alike;
            }
        }
        let known = room(&mut self.known)
            .entry(key)
            .and_modify(|known| known.count = known.count.saturating_add(1))
            .or_insert_with(|| Known { name: name.to_owned(), count: 1, first: wall.clone() })
            .clone();
        let allowed = match &mut self.limits {
            Some((_, rates)) => {
                room(rates).entry(source).or_insert_with(|| Rate::new(PER_SECOND, BURST)).allows(now)
            }
            None => true,
        };
        allowed.then_some(known)
    }
}

/// Makes room for one more. What is forgotten begins anew.
fn room<T>(map: &mut HashMap<String, T>) -> &mut HashMap<String, T> {
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map
}

/// Whether there were so many different messages before this one that it stands for all.
fn is_one_too_many((messages, last): &mut Similar, message: &str, now: Duration) -> bool {
    if now.saturating_sub(*last) > PAUSE {
        messages.clear();
    }
    *last = now;
    messages.insert(message.to_owned());
    let too_many = messages.len() >= SIMILAR;
    if too_many {
        messages.pop_first();
    }
    too_many
}

/// Who tells of what.
fn source(event: &Occurrence) -> String {
    let about = &event.about;
    let of = [&about.kind, &about.namespace, &about.name, &about.uid, &about.api_version];
    let mut text = format!("{} {}", event.component, event.warning);
    for part in of {
        text.push(' ');
        text.push_str(part.as_deref().unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Events of a pod's container, each at its second: what they say, and as which they are written.
    fn written(correlator: &mut Correlator, events: &[(u64, &str)]) -> Vec<Option<(String, String, i32)>> {
        let mut number = 0;
        let mut one = |(second, message): &(u64, &str)| {
            let mut event = Occurrence {
                component: "kubelet".into(),
                about: Default::default(),
                annotations: Default::default(),
                warning: true,
                reason: "Unhealthy".to_owned(),
                message: (*message).to_owned(),
            };
            number += 1;
            let (name, wall) = (format!("e{number}"), Time(Timestamp::UNIX_EPOCH));
            let known = correlator.observe(&mut event, &name, &wall, Duration::from_secs(*second))?;
            Some((event.message, known.name, known.count))
        };
        events.iter().map(&mut one).collect()
    }

    fn of(message: &str, name: &str, count: i32) -> Option<(String, String, i32)> {
        Some((message.to_owned(), name.to_owned(), count))
    }

    #[test]
    fn the_same_event_again_raises_the_count_of_the_first() {
        let mut correlator = Correlator::bounded();
        let told = written(&mut correlator, &[(0, "a"), (1, "b"), (2, "a"), (3, "a")]);
        assert_eq!(told, [of("a", "e1", 1), of("b", "e2", 1), of("a", "e1", 2), of("a", "e1", 3)]);
    }

    #[test]
    fn events_that_differ_in_their_words_become_one_until_there_is_a_pause() {
        let messages: Vec<String> = (0..12).map(|number| format!("{number:02}")).collect();
        let events: Vec<(u64, &str)> = messages.iter().map(|message| (1, message.as_str())).collect();
        let mut correlator = Correlator::bounded();
        let told = written(&mut correlator, &events);
        assert_eq!(told[8], of("08", "e9", 1));
        let combined: Vec<_> = told[9..].to_vec();
        let say = |message: &str| format!("(combined from similar events): {message}");
        assert_eq!(combined, [of(&say("09"), "e10", 1), of(&say("10"), "e10", 2), of(&say("11"), "e10", 3)]);
        assert_eq!(written(&mut correlator, &[(602, "later")]), [of("later", "e1", 1)]);
    }

    #[test]
    fn a_source_that_does_not_stop_is_counted_and_not_written() {
        let mut correlator = Correlator::bounded();
        let told = written(&mut correlator, &[(0, "a"); 27]);
        assert_eq!((&told[24], &told[25], &told[26]), (&of("a", "e1", 25), &None, &None));
        assert_eq!(written(&mut correlator, &[(301, "a"), (302, "a")]), [of("a", "e1", 28), None]);
        let told = written(&mut Correlator::default(), &[(0, "a"); 27]);
        assert_eq!(told[26], of("a", "e1", 27), "where nothing is bounded");
    }
}
