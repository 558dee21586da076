//! A list's room in memory, which upstream's order depends on.

use crate::value::Value;

/// A list that shrinks and grows in place, as a Go slice does: upstream goes on to read the old
/// length of it when it orders items, where deleted ones have left room for new ones.
pub(super) struct Slots {
    slots: Vec<Value>,
    len: usize,
    /// Once it has outgrown its room, it is another list.
    moved: Option<Vec<Value>>,
}

impl Slots {
    pub fn new(slots: Vec<Value>) -> Self {
        Self { len: slots.len(), slots, moved: None }
    }

    pub fn items(&self) -> &[Value] {
        match &self.moved {
            Some(moved) => moved,
            None => self.slots.get(..self.len).unwrap_or_default(),
        }
    }

    pub fn find(&mut self, key: &str, value: &Value) -> Option<&mut Value> {
        let items = match &mut self.moved {
            Some(moved) => moved.as_mut_slice(),
            None => self.slots.get_mut(..self.len).unwrap_or_default(),
        };
        items.iter_mut().find(|v| v.child(key) == Some(value))
    }

    /// What comes after moves up; the last place keeps what it had.
    pub fn delete(&mut self, key: &str, value: &Value) {
        while let Some(at) = self.items().iter().position(|v| v.child(key) == Some(value)) {
            let tail = self.slots.get(at + 1..self.len).unwrap_or_default().to_vec();
            for (slot, next) in self.slots.iter_mut().skip(at).zip(tail) {
                *slot = next;
            }
            self.len -= 1;
        }
    }

    pub fn push(&mut self, item: Value) {
        match (&mut self.moved, self.slots.get_mut(self.len)) {
            (Some(moved), _) => moved.push(item),
            (None, Some(slot)) => {
                *slot = item;
                self.len += 1;
            }
            (None, None) => {
                let mut moved = self.slots.clone();
                moved.push(item);
                self.moved = Some(moved);
            }
        }
    }

    /// All places, also those that are no longer in the list.
    pub fn into_room(self) -> Vec<Value> {
        self.slots
    }
}
