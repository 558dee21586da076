//! Small numbers for things that many have, so that tables about them are plain lists.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Numbers for things, each counted as often as it is taken. A number is used again once nobody has its thing.
#[derive(Debug)]
pub struct Numbers<K> {
    by_thing: HashMap<Arc<K>, u32>,
    all: Vec<Option<(Arc<K>, usize)>>,
    free: Vec<u32>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self { by_thing: HashMap::new(), all: Vec::new(), free: Vec::new() }
    }
}

impl<K: Hash + Eq> Numbers<K> {
    /// The number of a thing that somebody has.
    pub fn get(&self, thing: &K) -> Option<u32> {
        self.by_thing.get(thing).copied()
    }

    /// How many have the thing of this number.
    pub fn users(&self, number: u32) -> usize {
        self.entry(number).map_or(0, |(_, users)| *users)
    }

    /// So long must a list be to have a place for each number.
    pub fn places(&self) -> usize {
        self.all.len()
    }

    /// All things that somebody has.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &K)> {
        (0u32..).zip(&self.all).filter_map(|(number, entry)| Some((number, &*entry.as_ref()?.0)))
    }

    /// Somebody has a thing.
    pub fn take(&mut self, thing: K) -> u32 {
        if let Some(&number) = self.by_thing.get(&thing) {
            if let Some((_, users)) = self.place(number) {
                *users += 1;
            }
            return number;
        }
        let thing = Arc::new(thing);
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.all.get_mut(number as usize) {
            *place = Some((thing.clone(), 1));
        }
        self.by_thing.insert(thing, number);
        number
    }

    /// One less has the thing of this number.
    pub fn release(&mut self, number: u32) {
        let Some((_, users)) = self.place(number) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        let gone = self.all.get_mut(number as usize).and_then(Option::take);
        if let Some((thing, _)) = gone {
            self.by_thing.remove(&thing);
            self.free.push(number);
        }
    }

    fn entry(&self, number: u32) -> Option<&(Arc<K>, usize)> {
        self.all.get(number as usize)?.as_ref()
    }

    fn place(&mut self, number: u32) -> Option<&mut (Arc<K>, usize)> {
        self.all.get_mut(number as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_again_once_nobody_has_its_thing() {
        let mut numbers = Numbers::default();
        let (a, b) = (numbers.take("a"), numbers.take("b"));
        assert_eq!(numbers.take("a"), a);
        numbers.release(a);
        assert_eq!((numbers.get(&"a"), numbers.users(a)), (Some(a), 1));
        numbers.release(a);
        assert_eq!((numbers.get(&"a"), numbers.get(&"b")), (None, Some(b)));
        assert_eq!((numbers.take("c"), numbers.places()), (a, 2));
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [(a, &"c"), (b, &"b")]);
    }
}
