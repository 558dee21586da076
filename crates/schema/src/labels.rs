//! Label selectors.

use crate::Object;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted.
    pub values: Vec<String>,
}

/// All requirements must hold; none matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
    /// Matches no labels at all, as a nil LabelSelector does.
    pub nothing: bool,
}

impl Selector {
    pub fn parse(_text: &str) -> Result<Self, SelectorError> {
        Err(SelectorError("unfinished".into()))
    }

    pub fn from_label_selector(_o: Option<&Object>) -> Result<Self, SelectorError> {
        Err(SelectorError("unfinished".into()))
    }

    pub fn matches<'a>(&self, _label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}
