//! The Kubernetes dialect of CEL, as far as selectors of devices need it (KEP-4381).
//!
//! The `cel` crate parses; `check` knows the types of what an expression may use and says before it is ever run what is
//! wrong with it, `cost` what running it may cost; `eval` runs it within a budget. Pure, and knows nothing of claims or
//! nodes.

mod check;
mod cost;
mod device;
mod eval;
mod functions;
mod types;
mod value;

pub use device::{Cache, Selector};

/// The longest expression, in bytes (`resource.CELSelectorExpressionMaxLength`).
pub const LONGEST: usize = 10 * 1024;
/// How much running an expression may cost, in upstream's units (`resource.CELSelectorExpressionMaxCost`).
pub const BUDGET: u64 = 1_000_000;

/// Why an expression cannot be run, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It is not CEL, or its types do not go together; each fault stands with its place.
    #[error("compilation failed: {0}")]
    Failed(String),
    /// It does not say yes or no.
    #[error("must evaluate to bool or the unknown type, not {0}")]
    Type(String),
}

/// Why running an expression ended without an answer, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A map has no such key.
    #[error("no such key: {0}")]
    NoKey(String),
    /// A list is not that long.
    #[error("index out of bounds: {0}")]
    Index(i64),
    /// Operator or function do not go with these values.
    #[error("no such overload")]
    Overload,
    /// Only lists and maps can be looped over.
    #[error("got '{0}', expected iterable type")]
    Range(&'static str),
    /// A number does not fit.
    #[error("{0} overflow")]
    Overflow(&'static str),
    /// Division by nothing.
    #[error("{0} by zero")]
    Zero(&'static str),
    /// What a function was given cannot be read.
    #[error("{0}")]
    Argument(String),
    /// It would take too long.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
    /// The answer is neither yes nor no.
    #[error("CEL result of type {0} could not be converted to bool: {why}", why = unconverted(.0))]
    Answer(&'static str),
    /// A device's attribute has no value that is known here.
    #[error("attribute {0}: {1}")]
    Attribute(String, String),
}

/// Every type of upstream's has words of its own.
fn unconverted(kind: &str) -> String {
    match kind {
        "string" => "unsupported native conversion from string to 'bool'".to_owned(),
        "int" | "uint" => format!("unsupported type conversion from '{kind}' to bool"),
        other => {
            let name = other.rsplit('.').next().unwrap_or(other);
            format!("type conversion error from '{name}' to 'bool'")
        }
    }
}

#[cfg(test)]
mod tests;
