//! Field selectors.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FieldSelectorError(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    /// Must not have the value.
    pub not: bool,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn parse(_text: &str) -> Result<Self, FieldSelectorError> {
        Err(FieldSelectorError("unfinished".into()))
    }

    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| (field(&r.field).unwrap_or("") == r.value) != r.not)
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}
