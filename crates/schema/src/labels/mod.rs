//! Label selectors, and what labels may look like, with upstream's messages.

mod parse;
mod validate;

use std::fmt::{Display, Formatter};

use crate::{Object, Value};

pub use validate::{validate_key, validate_value};

/// Upstream's words about a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Requirement {
    /// Checks key, operator and values as upstream does.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        validate::requirement(key, operator, &values)?;
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether the label's value, None when there is no such label, is as required.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let value = value.and_then(|v| v.parse::<i64>().ok());
                let limit = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (value, limit) {
                    (Some(value), Some(limit)) if self.operator == Operator::GreaterThan => value > limit,
                    (Some(value), Some(limit)) => value < limit,
                    _ => false,
                }
            }
        }
    }
}

/// All requirements must hold; none matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Selector {
    /// Sorted by key.
    pub requirements: Vec<Requirement>,
    /// Matches no labels at all, as an absent LabelSelector does.
    pub nothing: bool,
}

impl Selector {
    /// Reads a selector as it stands in a query: `a=b,c in (d,e),!f`. The message of an error is
    /// upstream's whole one.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = parse::parse(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// From a metav1.LabelSelector: nothing when it is absent, everything when it is empty.
    pub fn from_label_selector(o: Option<&Object>) -> Result<Self, SelectorError> {
        let Some(selector) = o else {
            return Ok(Self::nothing());
        };
        let labels = selector.map_at(&["matchLabels"]);
        let labels = labels.into_iter().flat_map(|m| m.strings());
        let expressions = selector.list_at(&["matchExpressions"]).unwrap_or_default();
        let expressions = expressions.iter().filter_map(Value::as_struct).map(|e| {
            let values = e.list_at(&["values"]).unwrap_or_default();
            let values = values.iter().filter_map(Value::as_str).map(str::to_owned);
            (
                e.str_at(&["key"]).unwrap_or(""),
                e.str_at(&["operator"]).unwrap_or(""),
                values.collect::<Vec<_>>(),
            )
        });
        Self::from_parts(labels, expressions)
    }

    /// From `matchLabels`, and `matchExpressions` as key, operator and values.
    pub fn from_parts<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, Vec<String>)>,
    ) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in labels {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.to_owned()])?);
        }
        for (key, operator, values) in expressions {
            let operator = match operator {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let message = format!("{other:?} is not a valid label selector operator");
                    return Err(SelectorError(message));
                }
            };
            requirements.push(Requirement::new(key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a plain set of labels, all of which must be there: a Service's selector.
    pub fn from_set<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut requirements: Vec<_> = labels
            .into_iter()
            .map(|(key, value)| Requirement {
                key: key.to_owned(),
                operator: Operator::Equals,
                values: vec![value.to_owned()],
            })
            .collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// `label` gives the value of a label, None when there is no such label.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    pub fn matches_object(&self, o: &Object) -> bool {
        self.matches(|key| o.label(key))
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

impl Display for Requirement {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            Display::fmt(requirement, f)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_print_as_they_were_read() {
        for text in [
            "a=b",
            "a==b",
            "a!=b",
            "a in (b,c)",
            "a notin (b)",
            "a",
            "!a",
            "a>1",
            "a<1",
            "",
            "a=b,c in (d),!e",
            "in in (in)",
        ] {
            assert_eq!(Selector::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Selector::parse(" z = y , a in ( c , b ) ").unwrap().to_string(), "a in (b,c),z=y");
        assert_eq!(Selector::parse("x in (a,,b)").unwrap().to_string(), "x in (,a,b)");
        assert_eq!(Selector::parse("x in ()").unwrap().to_string(), "x in ()");
    }

    #[test]
    fn errors_are_upstreams() {
        for (text, error) in [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("(a", "found '(', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "-a=b",
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn matching() {
        let labels = |key: &str| match key {
            "app" => Some("web"),
            "n" => Some("5"),
            _ => None,
        };
        for (text, matches) in [
            ("app=web", true),
            ("app!=web", false),
            ("x!=y", true),
            ("app in (a,web)", true),
            ("app notin (web)", false),
            ("x notin (y)", true),
            ("app", true),
            ("!app", false),
            ("n>4", true),
            ("n<5", false),
            ("x>1", false),
            ("", true),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(labels), matches, "{text}");
        }
        assert!(!Selector::from_label_selector(None).unwrap().matches(labels));
    }
}
