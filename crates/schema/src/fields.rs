//! Field selectors: `metadata.name=a,status.phase!=Running`. Backslash, comma and equals sign are
//! escaped in values with a backslash.

use std::fmt::{Display, Formatter};

/// Upstream's words about a selector.
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

/// All requirements must hold; none matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|t| !t.is_empty()) {
            let Some((field, not, value)) = split_term(term) else {
                let message = format!("invalid selector: '{text}'; can't understand '{term}'");
                return Err(FieldSelectorError(message));
            };
            // Nothing that is nothing is so of everything.
            if field.is_empty() && value.is_empty() && !not {
                continue;
            }
            requirements.push(FieldRequirement { field: field.to_owned(), not, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    /// `field` gives the value of a field; None counts as empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| (field(&r.field).unwrap_or("") == r.value) != r.not)
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that a field must have, where the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.field == field && !r.not).map(|r| r.value.as_str())
    }
}

impl Display for FieldSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (at, r) in self.requirements.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let operator = if r.not { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", r.field, escape(&r.value))?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            terms.extend(text.get(start..at));
            start = at + 1;
        }
    }
    terms.extend(text.get(start..));
    terms
}

/// At the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        let rest = term.get(at..)?;
        for (operator, not) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((term.get(..at)?, not, value));
            }
        }
    }
    None
}

/// A value as it stands in a selector.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(FieldSelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(FieldSelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_matched() {
        let selector = FieldSelector::parse("metadata.name=a,status.phase!=Running").unwrap();
        assert_eq!(selector.to_string(), "metadata.name=a,status.phase!=Running");
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        let with = |phase: &'static str| {
            selector.matches(move |f| Some(if f == "metadata.name" { "a" } else { phase }))
        };
        assert!(with("Pending") && !with("Running"));
        assert!(FieldSelector::parse("").unwrap().is_everything());
        assert!(FieldSelector::parse("=").unwrap().is_everything());
        assert_eq!(FieldSelector::parse("!=").unwrap().requirements.len(), 1);
        let escaped = FieldSelector::parse(r"a=b\,c\=d\\e").unwrap();
        assert_eq!(escaped.exact("a"), Some(r"b,c=d\e"));
        assert_eq!(escaped.to_string(), r"a=b\,c\=d\\e");
    }

    #[test]
    fn errors_are_upstreams() {
        for (text, error) in [
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
            (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error);
        }
    }
}
