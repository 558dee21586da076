//! Unified diffs of lines, as `diff -u` has them.

use std::fmt::Write as _;

/// How many lines around a change are told.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Removed,
    Added,
}

/// The hunks between two texts; empty when they are equal.
pub(super) fn diff(old: &[String], new: &[String]) -> String {
    let script = script(old, new);
    let mut out = String::new();
    let changed: Vec<usize> =
        script.iter().enumerate().filter(|(_, (kind, _))| *kind != Kind::Same).map(|(at, _)| at).collect();
    let mut rest = changed.as_slice();
    while let Some((&first, _)) = rest.split_first() {
        // Changes whose contexts touch are one hunk.
        let together =
            rest.windows(2).take_while(|pair| matches!(pair, [a, b] if b - a <= 2 * CONTEXT + 1)).count();
        let last = rest.get(together).copied().unwrap_or(first);
        let (from, to) = (first.saturating_sub(CONTEXT), (last + CONTEXT + 1).min(script.len()));
        hunk(&script, from, to, &mut out);
        rest = rest.get(together + 1..).unwrap_or_default();
    }
    out
}

fn hunk(script: &[(Kind, &str)], from: usize, to: usize, out: &mut String) {
    let before = script.get(..from).unwrap_or_default();
    let inside = script.get(from..to).unwrap_or_default();
    let count = |part: &[(Kind, &str)], not: Kind| part.iter().filter(|(kind, _)| *kind != not).count();
    let (old_length, new_length) = (count(inside, Kind::Added), count(inside, Kind::Removed));
    let start = |skipped: usize, length: usize| if length == 0 { skipped } else { skipped + 1 };
    let old_start = start(count(before, Kind::Added), old_length);
    let new_start = start(count(before, Kind::Removed), new_length);
    let range = |start: usize, length: usize| match length {
        1 => start.to_string(),
        length => format!("{start},{length}"),
    };
    let _ = writeln!(out, "@@ -{} +{} @@", range(old_start, old_length), range(new_start, new_length));
    for (kind, line) in inside {
        let mark = match kind {
            Kind::Same => ' ',
            Kind::Removed => '-',
            Kind::Added => '+',
        };
        let _ = writeln!(out, "{mark}{line}");
    }
}

/// The lines of both texts in order, by the longest common subsequence of what differs between the common
/// beginning and the common end.
fn script<'l>(old: &'l [String], new: &'l [String]) -> Vec<(Kind, &'l str)> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let old_middle = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let new_middle = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let same = |lines: &'l [String]| lines.iter().map(|line| (Kind::Same, line.as_str()));
    let mut out: Vec<(Kind, &str)> = same(old.get(..head).unwrap_or_default()).collect();
    middle(old_middle, new_middle, &mut out);
    out.extend(same(old_rest.get(old_rest.len() - tail..).unwrap_or_default()));
    out
}

fn middle<'l>(old: &'l [String], new: &'l [String], out: &mut Vec<(Kind, &'l str)>) {
    let width = new.len() + 1;
    // lengths[i * width + j]: how much of old[i..] and new[j..] is common.
    let mut lengths = vec![0u32; (old.len() + 1) * width];
    let at = |lengths: &[u32], i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or_default();
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let length = match a == b {
                true => at(&lengths, i + 1, j + 1) + 1,
                false => at(&lengths, i + 1, j).max(at(&lengths, i, j + 1)),
            };
            if let Some(cell) = lengths.get_mut(i * width + j) {
                *cell = length;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    loop {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                out.push((Kind::Same, a));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none() || at(&lengths, i + 1, j) >= at(&lengths, i, j + 1) => {
                out.push((Kind::Removed, a));
                i += 1;
            }
            (_, Some(b)) => {
                out.push((Kind::Added, b));
                j += 1;
            }
            (_, None) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::diff;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn hunks_read_as_those_of_diff() {
        let old = lines("a b c d e f g h i j k l m n o");
        assert_eq!(diff(&old, &old), "");
        let near = diff(&old, &lines("a b c d X f g h i j k l m n o"));
        assert_eq!(near, "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+X\n f\n g\n h\n");
        let far = diff(&old, &lines("X b c d e f g h i j k l m n o p"));
        assert_eq!(far, "@@ -1,4 +1,4 @@\n-a\n+X\n b\n c\n d\n@@ -13,3 +13,4 @@\n m\n n\n o\n+p\n");
    }
}
