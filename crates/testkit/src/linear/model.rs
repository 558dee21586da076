/// What a client asks of one object. Values are different in every ask, so that each write is a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Make it, with this value.
    Create(u64),
    /// Give it this value if it was last written at this revision.
    Update(u64, u64),
    /// Give it this value, whatever it is now.
    Patch(u64),
    /// Remove it.
    Delete,
    /// Read it.
    Read,
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It holds this value since this revision: by this write, or found so by a read.
    Holds(u64, u64),
    /// It is not there; after a deletion: it was, until now.
    Absent,
    /// It was there already: create.
    Exists,
    /// It is there and was written since: update.
    Changed,
    /// It was removed.
    Removed,
    /// Nothing was done, for a reason that has nothing to do with the object.
    Refused,
    /// There was no answer: it may have been done, or be done at any time from the call on.
    Unknown,
}

/// The object, as one server holds it: a value and the revision of its last write, where somebody was told it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State(Option<(u64, Option<u64>)>);

impl State {
    /// The state after this, if the answer can be given in this one.
    pub fn step(&self, ask: &Ask, answer: &Answer) -> Option<Self> {
        match (ask, answer) {
            (_, Answer::Refused) => Some(self.clone()),
            (Ask::Create(value), Answer::Holds(held, revision)) if self.0.is_none() && value == held => {
                self.written(*value, Some(*revision))
            }
            (Ask::Create(_), Answer::Exists) => self.0.map(|_| self.clone()),
            (Ask::Create(value), Answer::Unknown) if self.0.is_none() => self.written(*value, None),
            (Ask::Update(value, expected), Answer::Holds(held, revision)) if value == held => {
                self.may_be_at(*expected).then(|| self.written(*value, Some(*revision)))?
            }
            (Ask::Update(value, expected), Answer::Unknown) if self.may_be_at(*expected) => {
                self.written(*value, None)
            }
            (Ask::Update(_, expected), Answer::Changed) => {
                matches!(self.0, Some((_, revision)) if revision != Some(*expected)).then(|| self.clone())
            }
            (Ask::Patch(value), Answer::Holds(held, revision)) if self.0.is_some() && value == held => {
                self.written(*value, Some(*revision))
            }
            (Ask::Patch(value), Answer::Unknown) if self.0.is_some() => self.written(*value, None),
            (Ask::Delete, Answer::Removed) => self.0.map(|_| Self(None)),
            (Ask::Read, Answer::Holds(value, revision)) => match self.0 {
                Some((held, known)) if held == *value && known.is_none_or(|known| known == *revision) => {
                    Some(Self(Some((held, Some(*revision)))))
                }
                _ => None,
            },
            (Ask::Create(_), Answer::Absent) => None,
            (_, Answer::Absent) => self.0.is_none().then(|| self.clone()),
            // What may have been done and could not have been here changes nothing.
            (Ask::Delete, Answer::Unknown) => Some(Self(None)),
            (_, Answer::Unknown) => Some(self.clone()),
            _ => None,
        }
    }

    fn may_be_at(&self, expected: u64) -> bool {
        matches!(self.0, Some((_, revision)) if revision.is_none_or(|revision| revision == expected))
    }

    /// Revisions only rise.
    fn written(&self, value: u64, revision: Option<u64>) -> Option<Self> {
        let before = self.0.and_then(|(_, revision)| revision);
        let rises = before.zip(revision).is_none_or(|(before, revision)| before < revision);
        rises.then_some(Self(Some((value, revision))))
    }
}
