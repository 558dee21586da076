//! Who refers to something: from what is named to the keys of those who name it.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

/// An index of objects by what they refer to. It knows of an object what was last said of it, and nothing once it is
/// removed.
#[derive(Debug, Default)]
pub struct Index(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, BTreeSet<String>>,
}

impl State {
    fn forget(&mut self, key: &str) {
        for name in self.names.remove(key).into_iter().flatten() {
            if let Some(keys) = self.keys.get_mut(&name) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&name);
                }
            }
        }
    }
}

impl Index {
    /// The object `key` refers to just these.
    pub fn set(&self, key: &str, names: impl IntoIterator<Item = String>) {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut state = self.0.lock();
        if state.names.get(key).is_some_and(|known| *known == names) {
            return;
        }
        state.forget(key);
        for name in &names {
            state.keys.entry(name.clone()).or_default().insert(key.to_owned());
        }
        if !names.is_empty() {
            state.names.insert(key.to_owned(), names);
        }
    }

    /// The object `key` refers to nothing any more.
    pub fn remove(&self, key: &str) {
        self.0.lock().forget(key);
    }

    /// The keys of those who refer to `name`, in their order.
    pub fn of(&self, name: &str) -> Vec<String> {
        self.0.lock().keys.get(name).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_last_holds() {
        let index = Index::default();
        index.set("a", ["x".to_owned(), "y".to_owned()]);
        index.set("b", ["y".to_owned()]);
        assert_eq!(index.of("y"), ["a", "b"]);
        index.set("a", ["z".to_owned()]);
        assert_eq!(
            (index.of("x"), index.of("y"), index.of("z")),
            (vec![], vec!["b".into()], vec!["a".into()])
        );
        index.remove("a");
        index.remove("b");
        assert!(index.0.lock().keys.is_empty() && index.0.lock().names.is_empty());
    }
}
