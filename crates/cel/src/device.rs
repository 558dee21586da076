//! Selectors of devices: expressions over `device`.

use std::collections::HashMap;
use std::sync::Arc;

use cel_rust::common::ast::IdedExpr;
use cel_rust::parser::Parser;
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use parking_lot::Mutex;
use schema::quantity::Quantity;

use crate::check::{check, placed};
use crate::cost::most;
use crate::eval::Run;
use crate::functions::version;
use crate::types::Type;
use crate::value::{Map, Value};
use crate::{BUDGET, CompileError, EvalError};

/// An expression that says of a device yes or no.
#[derive(Debug)]
pub struct Selector {
    expr: IdedExpr,
}

impl Selector {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn compile(expression: &str) -> Result<Self, CompileError> {
        let read = Parser::new().parse_with_source_info(expression);
        let (expr, source) = read.map_err(|faults| {
            let shown = faults.errors.iter().map(|fault| {
                let (line, column) = (fault.pos.0.max(1), fault.pos.1.max(1));
                let before = expression.split_inclusive('\n').take(line.unsigned_abs() - 1);
                let start: usize = before.map(|line| line.chars().count()).sum();
                placed(expression, start + column.unsigned_abs() - 1, &fault.msg)
            });
            CompileError::Failed(shown.collect::<Vec<_>>().join("\n"))
        })?;
        match check(&expr, &source).map_err(CompileError::Failed)? {
            Type::Bool | Type::Any => Ok(Self { expr }),
            other => Err(CompileError::Type(other.to_string())),
        }
    }

    /// The most that running it may cost, in the units of [`BUDGET`](crate::BUDGET).
    pub fn most_cost(&self) -> u64 {
        most(&self.expr)
    }

    /// Whether a device of a driver is selected.
    ///
    /// # Errors
    /// When running the expression ends without an answer.
    pub fn matches(&self, driver: &str, device: &Device) -> Result<bool, EvalError> {
        match Run::new(value(driver, device)?, BUDGET).value(&self.expr)? {
            Value::Bool(is) => Ok(is),
            other => Err(EvalError::Answer(other.type_name())),
        }
    }
}

fn value(driver: &str, device: &Device) -> Result<Value, EvalError> {
    let mut attributes = Vec::new();
    for (name, attribute) in device.attributes.iter().flatten() {
        let value = of_attribute(attribute).map_err(|why| EvalError::Attribute(name.clone(), why))?;
        attributes.push((name.as_str(), value));
    }
    let capacity = device.capacity.iter().flatten().map(|(name, capacity)| {
        let amount: Result<Quantity, _> = capacity.value.0.parse();
        amount
            .map(|amount| (name.as_str(), Value::Quantity(amount)))
            .map_err(|_| EvalError::Argument(format!("capacity {name}: not a quantity")))
    });
    let fields = [
        ("driver", Value::text(driver)),
        ("allowMultipleAllocations", Value::Bool(device.allow_multiple_allocations.unwrap_or_default())),
        ("attributes", by_domain(driver, attributes)),
        ("capacity", by_domain(driver, capacity.collect::<Result<_, _>>()?)),
    ];
    let entries = fields.into_iter().map(|(name, value)| (Value::text(name), value)).collect();
    Ok(Value::Map(Arc::new(Map { entries, is_open: false })))
}

/// A name without a domain is in the driver's. Of a domain that a device does not know, it simply has nothing.
fn by_domain(driver: &str, all: Vec<(&str, Value)>) -> Value {
    let mut domains: Vec<(&str, Map)> = Vec::new();
    for (name, value) in all {
        let (domain, id) = name.split_once('/').unwrap_or((driver, name));
        let entry = (Value::text(id), value);
        match domains.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, map)) => map.entries.push(entry),
            None => domains.push((domain, Map { entries: vec![entry], is_open: false })),
        }
    }
    let entries = domains.into_iter().map(|(domain, map)| (Value::text(domain), Value::Map(Arc::new(map))));
    Value::Map(Arc::new(Map { entries: entries.collect(), is_open: true }))
}

fn of_attribute(attribute: &DeviceAttribute) -> Result<Value, String> {
    if let Some(number) = attribute.int {
        return Ok(Value::Int(number));
    }
    if let Some(flag) = attribute.bool {
        return Ok(Value::Bool(flag));
    }
    if let Some(text) = &attribute.string {
        return Ok(Value::text(text));
    }
    match &attribute.version {
        Some(text) => {
            version(text, false).map(Value::Semver).map_err(|why| format!("parse semantic version: {why}"))
        }
        None => Err("unsupported attribute value".to_owned()),
    }
}

/// Expressions that were compiled before; so many at most.
const KEPT: usize = 1000;

/// Compiles each expression once.
#[derive(Debug, Default)]
pub struct Cache {
    known: Mutex<HashMap<String, Result<Arc<Selector>, CompileError>>>,
}

impl Cache {
    /// The selector of an expression.
    ///
    /// # Errors
    /// Those of [`Selector::compile`].
    pub fn get(&self, expression: &str) -> Result<Arc<Selector>, CompileError> {
        let mut known = self.known.lock();
        if let Some(found) = known.get(expression) {
            return found.clone();
        }
        if known.len() >= KEPT {
            known.clear();
        }
        let made = Selector::compile(expression).map(Arc::new);
        known.insert(expression.to_owned(), made.clone());
        made
    }
}
