//! Sets of paths.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::object::Object;
use crate::value::Value;

/// One step of a path.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A struct's field or a map's key: `f:`.
    Field(String),
    /// A list's item by its keys, sorted by name: `k:`.
    Key(Vec<(String, Value)>),
    /// A set's item: `v:`.
    Value(Value),
    /// `i:`
    Index(i64),
}

impl PathElement {
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Int(_) | Value::Float(_) => 0,
        Value::Str(_) => 1,
        Value::Bool(_) => 2,
        Value::List(_) => 3,
        Value::Map(_) => 4,
        _ => 5,
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            let (a, b) = (a.as_float().unwrap_or(0.0), b.as_float().unwrap_or(0.0));
            a.total_cmp(&b)
        }
        (Value::Str(a), Value::Str(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::List(a), Value::List(b)) => compare_lists(a, b),
        (Value::Map(a), Value::Map(b)) => {
            for ((ka, va), (kb, vb)) in a.iter().zip(b.iter()) {
                let order = ka.cmp(kb).then_with(|| compare_values(va, vb));
                if order != Ordering::Equal {
                    return order;
                }
            }
            a.len().cmp(&b.len())
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn compare_lists(a: &[Value], b: &[Value]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = compare_values(a, b);
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (Self::Value(a), Self::Value(b)) => compare_values(a, b),
            (Self::Key(a), Self::Key(b)) => {
                for ((ka, va), (kb, vb)) in a.iter().zip(b) {
                    let order = ka.cmp(kb).then_with(|| compare_values(va, vb));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathElement {}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) entries: BTreeMap<PathElement, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The path that ends here is in the set.
    pub member: bool,
    pub children: FieldSet,
}

impl Node {
    fn insert(&mut self, rest: &[PathElement]) {
        if rest.is_empty() {
            self.member = true;
        } else {
            self.children.insert(rest);
        }
    }

    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        // Mostly the element is there already, and need not be copied.
        match self.entries.get_mut(first) {
            Some(node) => node.insert(rest),
            None => self.entries.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub fn contains(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.entries.get(last).is_some_and(|n| n.member),
            [first, rest @ ..] => self.entries.get(first).is_some_and(|n| n.children.contains(rest)),
        }
    }

    /// All fields of an object that can be owned.
    pub fn from_object(o: &Object) -> Self {
        super::compare(&Object::new(o.ty().clone()), o).added
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.add(other.clone());
        out
    }

    /// As [`FieldSet::union`], in place.
    pub fn add(&mut self, other: Self) {
        if self.entries.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.entries {
            let mine = self.entries.entry(element).or_default();
            mine.member |= node.member;
            mine.children.add(node.children);
        }
    }

    /// As [`FieldSet::difference`], in place.
    pub fn remove(&mut self, other: &Self) {
        for (element, theirs) in &other.entries {
            if let Some(mine) = self.entries.get_mut(element) {
                mine.member &= !theirs.member;
                mine.children.remove(&theirs.children);
                if mine.is_empty() {
                    self.entries.remove(element);
                }
            }
        }
    }

    /// Exactly the paths that are not in the other set; what is below them stays.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.remove(other);
        out
    }

    /// As [`FieldSet::difference`], and without all that is below a path of the other set.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, other| match other {
            None => mine.clone(),
            Some(other) if other.member => Node::default(),
            Some(other) => {
                Node { member: mine.member, children: mine.children.recursive_difference(&other.children) }
            }
        })
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, other| {
            let Some(other) = other else {
                return Node::default();
            };
            Node {
                member: mine.member && other.member,
                children: mine.children.intersection(&other.children),
            }
        })
    }

    fn combine(&self, other: &Self, with: impl Fn(&Node, Option<&Node>) -> Node) -> Self {
        let entries = self.entries.iter().filter_map(|(element, mine)| {
            let node = with(mine, other.entries.get(element));
            (!node.is_empty()).then(|| (element.clone(), node))
        });
        Self { entries: entries.collect() }
    }
}
