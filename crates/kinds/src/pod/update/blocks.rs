//! What two texts have in common, as Python's `difflib.SequenceMatcher` finds it (Ratcliff and Obershelp): the longest
//! block first, then the longest ones on both sides of it.

use std::collections::HashMap;
use std::ops::Range;

/// From this many lines on, those that are met too often begin no block.
const MANY_LINES: usize = 200;
/// How many lines and pairs of equal lines are looked at before the rest counts as changed: a pod of megabytes must
/// not keep a processor busy for minutes.
const MOST_STEPS: usize = 5_000_000;

/// Lines that both texts have, in lines from their beginnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) length: usize,
}

/// The common blocks, in their order in both.
pub(super) fn common(old: &[String], new: &[String]) -> Vec<Block> {
    let mut search = Search { old, new, places: places(new), steps_left: MOST_STEPS };
    let mut found = Vec::new();
    let mut open = vec![(0..old.len(), 0..new.len())];
    while let Some((in_old, in_new)) = open.pop() {
        let block = search.longest(&in_old, &in_new);
        if block.length == 0 {
            continue;
        }
        found.push(block);
        open.push((in_old.start..block.old, in_new.start..block.new));
        open.push((block.old + block.length..in_old.end, block.new + block.length..in_new.end));
    }
    found.sort_unstable_by_key(|block| block.old);
    found
}

/// Where each line stands; without the ones that are too frequent to tell anything.
fn places(lines: &[String]) -> HashMap<&str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if lines.len() >= MANY_LINES {
        let most = lines.len() / 100 + 1;
        places.retain(|_, places| places.len() <= most);
    }
    places
}

struct Search<'l> {
    old: &'l [String],
    new: &'l [String],
    /// The places of the new text's lines.
    places: HashMap<&'l str, Vec<usize>>,
    steps_left: usize,
}

impl Search<'_> {
    /// The longest block within two ranges, the first one of equals; of length 0 when there is none.
    fn longest(&mut self, in_old: &Range<usize>, in_new: &Range<usize>) -> Block {
        let mut best = Block { old: in_old.start, new: in_new.start, length: 0 };
        // The lengths of the blocks that end with the line before, by where they end in the new text.
        let mut ending: HashMap<usize, usize> = HashMap::new();
        for at in in_old.clone() {
            if !step(&mut self.steps_left) {
                break;
            }
            let line = self.old.get(at).map(String::as_str).unwrap_or_default();
            let mut next = HashMap::new();
            let places = self.places.get(line).map(Vec::as_slice).unwrap_or_default();
            let first = places.partition_point(|&place| place < in_new.start);
            for &place in places.get(first..).unwrap_or_default() {
                if place >= in_new.end || !step(&mut self.steps_left) {
                    break;
                }
                let before = place.checked_sub(1).and_then(|before| ending.get(&before));
                let length = before.copied().unwrap_or_default() + 1;
                next.insert(place, length);
                if length > best.length {
                    best = Block { old: at + 1 - length, new: place + 1 - length, length };
                }
            }
            ending = next;
        }
        self.extended(best, in_old, in_new)
    }

    /// A block with the equal lines around it, frequent ones too.
    fn extended(&self, mut block: Block, in_old: &Range<usize>, in_new: &Range<usize>) -> Block {
        let same = |old: usize, new: usize| self.old.get(old) == self.new.get(new);
        while block.old > in_old.start && block.new > in_new.start && same(block.old - 1, block.new - 1) {
            block = Block { old: block.old - 1, new: block.new - 1, length: block.length + 1 };
        }
        while block.old + block.length < in_old.end
            && block.new + block.length < in_new.end
            && same(block.old + block.length, block.new + block.length)
        {
            block.length += 1;
        }
        block
    }
}

/// False when enough has been looked at.
fn step(left: &mut usize) -> bool {
    *left = left.saturating_sub(1);
    *left > 0
}

#[cfg(test)]
mod tests {
    use super::{Block, common};

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn found(old: &[String], new: &[String]) -> Vec<(usize, usize, usize)> {
        common(old, new).into_iter().map(|Block { old, new, length }| (old, new, length)).collect()
    }

    #[test]
    fn the_longest_block_comes_first() {
        // Not `a`, with which both begin: `ab` is longer.
        assert_eq!(found(&lines("a b"), &lines("a c a b")), [(0, 2, 2)]);
        assert_eq!(found(&lines("q a b x c d"), &lines("a b y c d f")), [(1, 0, 2), (4, 3, 2)]);
        assert_eq!(found(&lines("a"), &lines("b")), []);
    }

    #[test]
    fn frequent_lines_of_a_long_text_begin_no_block() {
        let brace = || "}".to_owned();
        let mut long: Vec<String> = (0..150).map(|number| number.to_string()).collect();
        long.extend(std::iter::repeat_with(brace).take(50));
        assert_eq!(found(&[brace(), "x".to_owned(), "7".to_owned()], &long), [(2, 7, 1)]);
        // In a short one they do.
        assert_eq!(found(&[brace(), "x".to_owned()], &long[140..]), [(0, 10, 1)]);
    }

    #[test]
    fn a_huge_text_of_few_kinds_of_lines_ends() {
        let text = |step: usize| (0..60_000).map(|at| (at * step % 101).to_string()).collect::<Vec<_>>();
        let blocks = common(&text(7), &text(13));
        assert!(blocks.windows(2).all(|pair| pair[0].old < pair[1].old && pair[0].new < pair[1].new));
    }
}
