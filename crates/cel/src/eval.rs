//! Runs an expression within a budget.

use std::sync::Arc;

use cel_rust::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr,
};

use crate::EvalError;
use crate::functions;
use crate::value::{Map, Value};

/// The names that stand for values, the innermost last, and what is left to spend.
pub struct Run {
    scopes: Vec<(String, Value)>,
    left: u64,
}

type Answer = Result<Value, EvalError>;

impl Run {
    /// With what stands for `device`.
    pub fn new(device: Value, budget: u64) -> Self {
        Self { scopes: vec![("device".to_owned(), device)], left: budget }
    }

    fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        self.left = self.left.checked_sub(cost).ok_or(EvalError::Budget)?;
        Ok(())
    }

    /// The value of an expression.
    pub fn value(&mut self, expr: &IdedExpr) -> Answer {
        self.spend(1)?;
        match &expr.expr {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Ident(name) => {
                let found = self.scopes.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| EvalError::NoKey(name.clone()))
            }
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let values = list.elements.iter().map(|element| self.value(element));
                Ok(Value::List(Arc::new(values.collect::<Result<_, _>>()?)))
            }
            Expr::Map(map) => {
                let mut entries = Vec::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return Err(EvalError::Overload) };
                    entries.push((self.value(&entry.key)?, self.value(&entry.value)?));
                }
                Ok(Value::Map(Arc::new(Map { entries, is_open: false })))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(_) | Expr::Unspecified => Err(EvalError::Overload),
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Answer {
        let Value::Map(map) = self.value(&select.operand)? else { return Err(EvalError::Overload) };
        let found = map.get(&Value::text(&select.field));
        if select.test {
            return Ok(Value::Bool(found.is_some()));
        }
        found.ok_or_else(|| EvalError::NoKey(select.field.clone()))
    }

    fn call(&mut self, call: &CallExpr) -> Answer {
        match (call.func_name.as_str(), call.args.as_slice()) {
            ("_&&_", [a, b]) => return self.either(a, b, false),
            ("_||_", [a, b]) => return self.either(a, b, true),
            ("_?_:_", [condition, yes, no]) => {
                return match self.value(condition)? {
                    Value::Bool(true) => self.value(yes),
                    Value::Bool(false) => self.value(no),
                    _ => Err(EvalError::Overload),
                };
            }
            // A loop goes on after an error, in case a later element decides.
            ("@not_strictly_false", [condition]) => {
                return match self.value(condition) {
                    Err(EvalError::Budget) => Err(EvalError::Budget),
                    Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                    _ => Ok(Value::Bool(true)),
                };
            }
            ("bind", [name, value, body]) if call.target.as_deref().is_some_and(is_cel) => {
                let Expr::Ident(name) = &name.expr else { return Err(EvalError::Overload) };
                let value = self.value(value)?;
                return self.with(name, value, |run| run.value(body));
            }
            _ => {}
        }
        let space = call.target.as_deref().and_then(space).filter(|name| !self.knows(name));
        if let Some(space) = space {
            let args = call.args.iter().map(|operand| self.value(operand)).collect::<Result<Vec<_>, _>>()?;
            self.spend(args.iter().map(Value::weight).sum())?;
            return functions::call(&format!("{space}.{}", call.func_name), &args);
        }
        let operands = call.target.as_deref().into_iter().chain(&call.args);
        let args = operands.map(|operand| self.value(operand)).collect::<Result<Vec<_>, _>>()?;
        self.spend(args.iter().map(Value::weight).sum())?;
        match call.func_name.strip_prefix(['_', '!', '-', '@']) {
            Some(_) => operator(&call.func_name, &args),
            None => functions::call(&call.func_name, &args),
        }
    }

    /// Either side may decide alone, even when the other fails.
    fn either(&mut self, a: &IdedExpr, b: &IdedExpr, deciding: bool) -> Answer {
        let first = self.value(a);
        if matches!(first, Ok(Value::Bool(is)) if is == deciding) || first == Err(EvalError::Budget) {
            return first;
        }
        match (first, self.value(b)) {
            (_, Ok(Value::Bool(is))) if is == deciding => Ok(Value::Bool(is)),
            (Ok(Value::Bool(_)), second @ Ok(Value::Bool(_))) => second,
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Err(EvalError::Overload),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.scopes.iter().any(|(known, _)| known == name)
    }

    fn with(&mut self, name: &str, value: Value, body: impl FnOnce(&mut Self) -> Answer) -> Answer {
        self.scopes.push((name.to_owned(), value));
        let answer = body(self);
        self.scopes.pop();
        answer
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Answer {
        let elements = match self.value(&of.iter_range)? {
            Value::List(list) => list.to_vec(),
            Value::Map(map) => map.entries.iter().map(|(key, _)| key.clone()).collect(),
            other => return Err(EvalError::Range(other.go_name())),
        };
        let mut result = Ok(self.value(&of.accu_init)?);
        for element in elements {
            let before = result.clone();
            let goes_on = self.accumulated(&of.accu_var, before.clone(), &of.loop_cond)?;
            if matches!(goes_on, Value::Bool(false)) {
                break;
            }
            self.scopes.push((of.iter_var.clone(), element));
            result = self.accumulated(&of.accu_var, before, &of.loop_step);
            self.scopes.pop();
            if result == Err(EvalError::Budget) {
                return result;
            }
        }
        self.accumulated(&of.accu_var, result, &of.result)
    }

    /// The value of a part of a loop, which sees what was gathered so far; that may be an error, which stays one.
    fn accumulated(&mut self, name: &str, gathered: Answer, part: &IdedExpr) -> Answer {
        match gathered {
            Ok(value) => self.with(name, value, |run| run.value(part)),
            Err(error) => match &part.expr {
                Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                    ("@not_strictly_false", _) => Ok(Value::Bool(true)),
                    ("_&&_", [_, step]) => self.decided(step, false, error),
                    ("_||_", [_, step]) => self.decided(step, true, error),
                    _ => Err(error),
                },
                _ => Err(error),
            },
        }
    }

    fn decided(&mut self, step: &IdedExpr, deciding: bool, error: EvalError) -> Answer {
        match self.value(step) {
            Ok(Value::Bool(is)) if is == deciding => Ok(Value::Bool(is)),
            Err(EvalError::Budget) => Err(EvalError::Budget),
            _ => Err(error),
        }
    }
}

/// What stands before a function and is no value, as in `sets.contains`.
pub fn space(target: &IdedExpr) -> Option<&str> {
    match &target.expr {
        Expr::Ident(name) => functions::SPACES.iter().copied().find(|space| *space == name.as_str()),
        _ => None,
    }
}

/// `cel`, as in `cel.bind`.
pub fn is_cel(target: &IdedExpr) -> bool {
    matches!(&target.expr, Expr::Ident(name) if name == "cel")
}

fn constant(literal: &LiteralValue) -> Value {
    match literal {
        LiteralValue::Boolean(flag) => Value::Bool(*flag.inner()),
        LiteralValue::Bytes(bytes) => Value::Bytes(bytes.inner().into()),
        LiteralValue::Double(number) => Value::Double(*number.inner()),
        LiteralValue::Int(number) => Value::Int(*number.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(text) => Value::text(text.inner()),
        LiteralValue::UInt(number) => Value::Uint(*number.inner()),
    }
}

/// What an operator makes of its operands.
pub fn operator(name: &str, args: &[Value]) -> Answer {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = || match args {
        [Value::Quantity(_) | Value::Semver(_), _] => Err(EvalError::Overload),
        [a, b] => a.order(b).ok_or(EvalError::Overload),
        _ => Err(EvalError::Overload),
    };
    if let Some(found) = functions::arithmetic(name, args) {
        return found;
    }
    Ok(match (name, args) {
        ("_==_", [a, b]) => Value::Bool(a.equals(b)),
        ("_!=_", [a, b]) => Value::Bool(!a.equals(b)),
        ("_<_", _) => Value::Bool(order()? == Less),
        ("_>_", _) => Value::Bool(order()? == Greater),
        ("_<=_", _) => Value::Bool(matches!(order()?, Less | Equal)),
        ("_>=_", _) => Value::Bool(matches!(order()?, Greater | Equal)),
        ("!_", [Value::Bool(flag)]) => Value::Bool(!flag),
        ("@in", [value, Value::List(list)]) => Value::Bool(list.iter().any(|known| known.equals(value))),
        ("@in", [value, Value::Map(map)]) => {
            Value::Bool(map.entries.iter().any(|(key, _)| key.equals(value)))
        }
        ("_[_]", [Value::Map(map), key]) => map.get(key).ok_or_else(|| EvalError::NoKey(key.shown()))?,
        ("_[_]", [Value::List(list), Value::Int(at)]) => {
            let found = usize::try_from(*at).ok().and_then(|at| list.get(at));
            found.cloned().ok_or(EvalError::Index(*at))?
        }
        ("_+_", [Value::Text(a), Value::Text(b)]) => Value::text(&format!("{a}{b}")),
        ("_+_", [Value::List(a), Value::List(b)]) => {
            Value::List(Arc::new([a.as_slice(), b.as_slice()].concat()))
        }
        (_, [Value::Double(a), Value::Double(b)]) => Value::Double(match name {
            "_+_" => a + b,
            "_-_" => a - b,
            "_*_" => a * b,
            "_/_" => a / b,
            _ => return Err(EvalError::Overload),
        }),
        ("-_", [Value::Double(number)]) => Value::Double(-number),
        ("-_", [Value::Int(number)]) => {
            Value::Int(number.checked_neg().ok_or(EvalError::Overflow("integer"))?)
        }
        ("_/_", [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)]) => {
            return Err(EvalError::Zero("division"));
        }
        ("_%_", [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)]) => {
            return Err(EvalError::Zero("modulus"));
        }
        (_, [Value::Int(a), Value::Int(b)]) => {
            let result = match name {
                "_+_" => a.checked_add(*b),
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" => a.checked_div(*b),
                "_%_" => a.checked_rem(*b),
                _ => return Err(EvalError::Overload),
            };
            Value::Int(result.ok_or(EvalError::Overflow("integer"))?)
        }
        (_, [Value::Uint(a), Value::Uint(b)]) => {
            let result = match name {
                "_+_" => a.checked_add(*b),
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" => a.checked_div(*b),
                "_%_" => a.checked_rem(*b),
                _ => return Err(EvalError::Overload),
            };
            Value::Uint(result.ok_or(EvalError::Overflow("unsigned integer"))?)
        }
        _ => return Err(EvalError::Overload),
    })
}
