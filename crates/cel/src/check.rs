//! Says what is wrong with an expression before it is run: names, fields and functions that there are not, and types
//! that do not go together.

use cel_rust::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo,
};

use crate::eval::{is_cel, space};
use crate::types::{Type, field, overloads};

/// Looks through one expression.
pub struct Checker<'s> {
    source: &'s SourceInfo,
    scopes: Vec<(String, Type)>,
    faults: Vec<String>,
}

/// The type of an expression, or all faults, each with its place.
pub fn check(expr: &IdedExpr, source: &SourceInfo) -> Result<Type, String> {
    let scopes = vec![("device".to_owned(), Type::Device)];
    let mut checker = Checker { source, scopes, faults: Vec::new() };
    let found = checker.of(expr);
    if checker.faults.is_empty() { Ok(found) } else { Err(checker.faults.join("\n")) }
}

/// A fault as upstream shows it: its place, and the line with a mark below.
pub fn placed(source: &str, offset: usize, message: &str) -> String {
    let mut line = (1, 0);
    for (at, character) in source.chars().enumerate().take(offset) {
        if character == '\n' {
            line = (line.0 + 1, at + 1);
        }
    }
    let column = offset.saturating_sub(line.1);
    let shown = source.lines().nth(line.0 - 1).unwrap_or_default();
    let mark = ".".repeat(column);
    format!("ERROR: <input>:{}:{}: {message}\n | {shown}\n | {mark}^", line.0, column + 1)
}

impl Checker<'_> {
    fn fault(&mut self, at: &IdedExpr, message: &str) -> Type {
        let offset = self.source.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        self.faults.push(placed(&self.source.source, offset, message));
        Type::Any
    }

    fn of(&mut self, expr: &IdedExpr) -> Type {
        match &expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Bytes(_) => Type::Bytes,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::Null => Type::Null,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::UInt(_) => Type::Uint,
            },
            Expr::Ident(name) => match self.scopes.iter().rev().find(|(known, _)| known == name) {
                Some((_, found)) => found.clone(),
                None => self.fault(expr, &format!("undeclared reference to '{name}' (in container '')")),
            },
            Expr::Select(select) => self.select(expr, select),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(list) => {
                let mut all = None;
                for element in &list.elements {
                    self.alike(element, &mut all);
                }
                Type::list(all.unwrap_or(Type::Any))
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (None, None);
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.alike(&entry.key, &mut keys);
                        self.alike(&entry.value, &mut values);
                    }
                }
                Type::map(keys.unwrap_or(Type::Any), values.unwrap_or(Type::Any))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(made) => {
                let name = made.type_name.clone();
                self.fault(expr, &format!("undeclared reference to '{name}' (in container '')"))
            }
            Expr::Unspecified => Type::Any,
        }
    }

    /// One of several that must be of one type.
    fn alike(&mut self, expr: &IdedExpr, all: &mut Option<Type>) {
        let found = self.of(expr);
        match all {
            None => *all = Some(found),
            Some(known) if known.fits(&found) => {}
            Some(known) => {
                let why = format!("expected type '{known}' but found '{found}'");
                self.fault(expr, &why);
            }
        }
    }

    /// A literal that a function cannot read is a fault where it stands.
    fn literals(&mut self, name: &str, call: &CallExpr) {
        let Some(arg) = call.args.last() else { return };
        let Expr::Literal(LiteralValue::String(text)) = &arg.expr else { return };
        let text = text.inner();
        let is_bad = match (name, call.target.is_some(), call.args.len()) {
            ("timestamp", false, 1) => text.parse::<jiff::Timestamp>().is_err(),
            ("duration", false, 1) => schema::time::parse_duration(text).is_err(),
            ("matches", true, 1) | ("matches", false, 2) => regex::Regex::new(text).is_err(),
            _ => false,
        };
        if is_bad {
            self.fault(arg, &format!("invalid {name} argument"));
        }
    }

    fn select(&mut self, expr: &IdedExpr, select: &SelectExpr) -> Type {
        let operand = self.of(&select.operand);
        let found = match &operand {
            Type::Any => Some(Type::Any),
            Type::Map(_, to) => Some((**to).clone()),
            Type::Device => match field(&select.field) {
                Some(found) => Some(found),
                None => return self.fault(expr, &format!("undefined field '{}'", select.field)),
            },
            _ => None,
        };
        match found {
            Some(_) if select.test => Type::Bool,
            Some(found) => found,
            None => self.fault(expr, &format!("type '{operand}' does not support field selection")),
        }
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Type {
        let name = call.func_name.as_str();
        if name == "bind" && call.target.as_deref().is_some_and(is_cel) {
            return self.bind(expr, call);
        }
        let space = call.target.as_deref().and_then(space);
        let space = space.filter(|name| !self.scopes.iter().any(|(known, _)| known == name));
        let whole = space.map(|space| format!("{space}.{name}"));
        let name = whole.as_deref().unwrap_or(name);
        let target = call.target.as_deref().filter(|_| space.is_none()).map(|target| self.of(target));
        // What is formatted may be of many types.
        let args = call.args.iter().map(|arg| match &arg.expr {
            Expr::List(list) if name == "format" => {
                list.elements.iter().for_each(|element| drop(self.of(element)));
                Type::list(Type::Any)
            }
            _ => self.of(arg),
        });
        let args: Vec<Type> = args.collect();
        if let ("_&&_" | "_||_", None) = (name, &target) {
            for (arg, is) in call.args.iter().zip(&args).filter(|(_, is)| !is.fits(&Type::Bool)) {
                self.fault(arg, &format!("expected type 'bool' but found '{is}'"));
            }
            return Type::Bool;
        }
        self.literals(name, call);
        let found = match &target {
            None => operator(name, &args),
            Some(_) => None,
        };
        if let Some(Some(found)) = found {
            return found;
        }
        let known = overloads(name);
        if found.is_none() && known.is_empty() {
            return self.fault(expr, &format!("undeclared reference to '{name}' (in container '')"));
        }
        let fits = |of: &Option<Type>, wanted: &[Type]| {
            let target_fits = match (of, &target) {
                (Some(wanted), Some(is)) => is.fits(wanted),
                (None, None) => true,
                _ => false,
            };
            target_fits
                && wanted.len() == args.len()
                && args.iter().zip(wanted).all(|(is, wanted)| is.fits(wanted))
        };
        let mut possible = known.into_iter().filter(|known| fits(&known.1, &known.2)).map(|known| known.3);
        match possible.next() {
            Some(first) => possible.fold(first, Type::or),
            None => {
                let args: Vec<String> = args.iter().map(Type::to_string).collect();
                let shown = match target {
                    Some(target) => format!("{target}.({})", args.join(", ")),
                    None => format!("({})", args.join(", ")),
                };
                self.fault(expr, &format!("found no matching overload for '{name}' applied to '{shown}'"))
            }
        }
    }

    fn bind(&mut self, expr: &IdedExpr, call: &CallExpr) -> Type {
        let [name, value, body] = call.args.as_slice() else {
            return self.fault(expr, "undeclared reference to 'bind' (in container '')");
        };
        let Expr::Ident(name) = &name.expr else {
            return self.fault(name, "cel.bind() variable names must be simple identifiers");
        };
        let value = self.of(value);
        self.scopes.push((name.clone(), value));
        let found = self.of(body);
        self.scopes.pop();
        found
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Type {
        let element = match self.of(&of.iter_range) {
            Type::List(of) => *of,
            Type::Map(from, _) => *from,
            Type::Any => Type::Any,
            other => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault(&of.iter_range, &why)
            }
        };
        let gathered = self.of(&of.accu_init);
        self.scopes.push((of.accu_var.clone(), gathered));
        self.scopes.push((of.iter_var.clone(), element));
        self.of(&of.loop_cond);
        let step = self.of(&of.loop_step);
        self.scopes.pop();
        self.scopes.pop();
        self.scopes.push((of.accu_var.clone(), step));
        let found = self.of(&of.result);
        self.scopes.pop();
        found
    }
}

/// What an operator gives: `None` when it is none, `Some(None)` when it does not go with these.
fn operator(name: &str, args: &[Type]) -> Option<Option<Type>> {
    let fits = |wanted: &Type| args.iter().all(|is| is.fits(wanted));
    let first = |of: &[Type]| {
        let known = args.iter().find(|is| **is != Type::Any);
        match known {
            None => Some(Type::Any),
            Some(known) if of.contains(known) || (matches!(known, Type::List(_)) && of.is_empty()) => {
                fits(known).then(|| known.clone())
            }
            Some(_) => None,
        }
    };
    let numbers = [Type::Int, Type::Uint, Type::Double];
    Some(match (name, args) {
        ("_&&_" | "_||_", _) | ("!_" | "@not_strictly_false", [_]) => fits(&Type::Bool).then_some(Type::Bool),
        ("_?_:_", [condition, yes, no]) => {
            let goes = condition.fits(&Type::Bool) && yes.fits(no);
            goes.then(|| yes.clone().or(no.clone()))
        }
        ("_==_" | "_!=_", [a, b]) => a.fits(b).then_some(Type::Bool),
        ("_<_" | "_>_" | "_<=_" | "_>=_", [a, b]) => {
            let is_number = |is: &Type| *is == Type::Any || numbers.contains(is);
            let ordered = [Type::Bool, Type::Text, Type::Bytes, Type::Time, Type::Duration].iter().any(fits);
            ((is_number(a) && is_number(b)) || ordered).then_some(Type::Bool)
        }
        ("@in", [a, Type::List(of)]) => a.fits(of).then_some(Type::Bool),
        ("@in", [a, Type::Map(from, _)]) => a.fits(from).then_some(Type::Bool),
        ("@in", [_, Type::Any]) => Some(Type::Bool),
        ("_[_]", [Type::Map(from, to), key]) => key.fits(from).then(|| (**to).clone()),
        ("_[_]", [Type::List(of), at]) => at.fits(&Type::Int).then(|| (**of).clone()),
        ("_[_]", [Type::Any, _]) => Some(Type::Any),
        ("_+_", [Type::Time, Type::Duration] | [Type::Duration, Type::Time])
        | ("_-_", [Type::Time, Type::Duration]) => Some(Type::Time),
        ("_-_", [Type::Time, Type::Time]) | ("_+_" | "_-_", [Type::Duration, Type::Duration]) => {
            Some(Type::Duration)
        }
        ("_+_" | "_-_", [a, b])
            if [a, b].iter().any(|is| matches!(is, Type::Time | Type::Duration))
                && [a, b].contains(&&Type::Any) =>
        {
            Some(Type::Any)
        }
        ("_+_", [Type::List(_), _] | [_, Type::List(_)]) => first(&[]),
        ("_+_", _) => first(&[Type::Int, Type::Uint, Type::Double, Type::Text, Type::Bytes]),
        ("_-_" | "_*_" | "_/_", [_, _]) => first(&numbers),
        ("_%_", _) => first(&[Type::Int, Type::Uint]),
        ("-_", _) => first(&[Type::Int, Type::Double]),
        ("@in" | "_[_]", _) => None,
        _ => return None,
    })
}
