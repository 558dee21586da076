//! What the test program is told. Pure.

use super::groups::Group;

/// The arguments that choose a group's tests.
pub(super) fn choose(group: &Group) -> Vec<String> {
    let focus = group.focus.iter().map(|text| format!("--ginkgo.focus={text}"));
    focus.chain(group.skip.iter().map(|(text, _)| format!("--ginkgo.skip={text}"))).collect()
}

/// The arguments that choose just these tests.
pub(super) fn only(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("--ginkgo.focus={}$", literal(name))).collect()
}

/// The tests of each worker: dealt out one by one, as neighbours are alike and take as long. Nobody gets none.
pub(super) fn deal(names: &[String], workers: usize) -> Vec<Vec<String>> {
    let workers = workers.clamp(1, names.len().max(1));
    let mut hands = vec![Vec::new(); workers];
    for (hand, name) in (0..workers).cycle().zip(names) {
        if let Some(hand) = hands.get_mut(hand) {
            hand.push(name.clone());
        }
    }
    hands.retain(|hand| !hand.is_empty());
    hands
}

/// A regular expression that matches a text and nothing else.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if char.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_becomes_arguments() {
        let group = Group { name: "one", focus: &["a", "b"], skip: &[("c", "why")], serial: false };
        assert_eq!(choose(&group), ["--ginkgo.focus=a", "--ginkgo.focus=b", "--ginkgo.skip=c"]);
    }

    #[test]
    fn a_name_is_meant_as_it_is_written() {
        let names = ["[sig-node] *not* 1.5 (x)".to_owned()];
        assert_eq!(only(&names), [r"--ginkgo.focus=\[sig\-node\] \*not\* 1\.5 \(x\)$"]);
    }

    #[test]
    fn tests_are_dealt_out_and_none_is_lost() {
        let names: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        assert_eq!(deal(&names, 2), [vec!["0", "2", "4"], vec!["1", "3"]]);
        assert_eq!(deal(&names, 9).len(), 5);
        assert_eq!(deal(&names, 0), std::slice::from_ref(&names));
        assert!(deal(&[], 3).is_empty());
    }
}
