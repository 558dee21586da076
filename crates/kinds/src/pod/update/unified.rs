//! Unified diffs of lines, as Python's `difflib` has them: upstream shows changes by a port of it.

use std::fmt::Write as _;

use super::blocks;

/// How many lines around a change are told.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Removed,
    Added,
}

/// The hunks between two texts; empty when they are equal.
pub(crate) fn diff(old: &[String], new: &[String]) -> String {
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

/// The lines of both texts in order.
fn script<'l>(old: &'l [String], new: &'l [String]) -> Vec<(Kind, &'l str)> {
    let mut out = Vec::new();
    let mut add = |kind: Kind, lines: Option<&'l [String]>| {
        out.extend(lines.unwrap_or_default().iter().map(|line| (kind, line.as_str())));
    };
    let (mut i, mut j) = (0, 0);
    for block in blocks::common(old, new) {
        add(Kind::Removed, old.get(i..block.old));
        add(Kind::Added, new.get(j..block.new));
        (i, j) = (block.old + block.length, block.new + block.length);
        add(Kind::Same, old.get(block.old..i));
    }
    add(Kind::Removed, old.get(i..));
    add(Kind::Added, new.get(j..));
    out
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
        let more = diff(&lines("{ a } z"), &lines("{ a } { a } z"));
        assert_eq!(more, "@@ -1,3 +1,6 @@\n+{\n+a\n+}\n {\n a\n }\n");
        assert_eq!(far, "@@ -1,4 +1,4 @@\n-a\n+X\n b\n c\n d\n@@ -13,3 +13,4 @@\n m\n n\n o\n+p\n");
    }
}
