//! What running an expression may cost at most (`cel-go`'s `checker.Cost` with Kubernetes' `CostEstimator`). It follows
//! how large values may be, as far as that can be known before a device is.

use cel_rust::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use crate::eval::{is_cel, space};

/// Of reading a text once, for each byte.
const TRAVERSAL: f64 = 0.1;
/// Of a pattern, for each byte.
const PATTERN: f64 = 0.25;
const NEW_LIST: u64 = 10;
const NEW_MAP: u64 = 30;
/// The longest name of a driver, the longest identifier, the longest value of an attribute, the most attributes.
const DRIVER: u64 = 63;
const ID: u64 = 32;
const VALUE: u64 = 64;
const MOST: u64 = 32;
/// Nobody knows.
const UNKNOWN: u64 = u64::MAX;

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Of a fixed size.
    One,
    /// A text or bytes of at most so many.
    Text(u64),
    /// Anything of at most this size.
    Any(u64),
    /// An address or a network.
    Network,
    List(u64, Box<Shape>),
    Map(u64, Box<Shape>, Box<Shape>),
    Device,
}

impl Shape {
    fn size(&self) -> u64 {
        match self {
            Self::One | Self::Network | Self::Device => 1,
            Self::Text(size) | Self::Any(size) | Self::List(size, _) | Self::Map(size, _, _) => *size,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Text(a), Self::Text(b)) => Self::Text(a.max(b)),
            (Self::List(a, c), Self::List(b, d)) => Self::List(a.max(b), Box::new(c.or(*d))),
            (a, b) => Self::Any(a.size().max(b.size())),
        }
    }

    fn map(size: u64, key: Self, value: Self) -> Self {
        Self::Map(size, Box::new(key), Box::new(value))
    }

    /// What a loop over it, or an index, gives.
    fn inside(&self) -> (Self, Self) {
        match self {
            Self::List(_, of) => ((**of).clone(), (**of).clone()),
            Self::Map(_, key, value) => ((**key).clone(), (**value).clone()),
            _ => (Self::Any(UNKNOWN), Self::Any(UNKNOWN)),
        }
    }
}

fn field(name: &str) -> Shape {
    let domains = |of| Shape::map(MOST, Shape::Text(DRIVER), Shape::map(MOST, Shape::Text(ID), of));
    match name {
        "driver" => Shape::Text(DRIVER),
        "attributes" => domains(Shape::Any(VALUE)),
        "capacity" => domains(Shape::One),
        _ => Shape::One,
    }
}

/// A part of a size, rounded up.
fn part(size: u64, factor: f64) -> u64 {
    let product = (size as f64 * factor).ceil();
    if product >= u64::MAX as f64 { u64::MAX } else { product as u64 }
}

fn text(shape: &Shape) -> u64 {
    part(shape.size(), TRAVERSAL)
}

/// The most that an expression may cost.
pub fn most(expr: &IdedExpr) -> u64 {
    let mut estimate = Estimate { scopes: vec![("device".to_owned(), Shape::Device)] };
    estimate.of(expr).0
}

struct Estimate {
    scopes: Vec<(String, Shape)>,
}

type Costly = (u64, Shape);

impl Estimate {
    fn of(&mut self, expr: &IdedExpr) -> Costly {
        match &expr.expr {
            Expr::Literal(literal) => (0, of_literal(literal)),
            Expr::Ident(name) => {
                let found = self.scopes.iter().rev().find(|(known, _)| known == name);
                (1, found.map_or(Shape::Any(UNKNOWN), |(_, shape)| shape.clone()))
            }
            Expr::Select(select) => {
                let (cost, shape) = self.of(&select.operand);
                let (is_known, found) = match &shape {
                    Shape::Device => (true, field(&select.field)),
                    Shape::Map(_, _, value) => (true, (**value).clone()),
                    _ => (false, Shape::Any(UNKNOWN)),
                };
                match select.test {
                    true => (cost, Shape::One),
                    false => (cost.saturating_add(u64::from(is_known)), found),
                }
            }
            Expr::List(list) => {
                let all: Vec<Costly> = list.elements.iter().map(|element| self.of(element)).collect();
                let size = all.len() as u64;
                let (cost, inside) = joined(all);
                (cost.saturating_add(NEW_LIST), Shape::List(size, Box::new(inside)))
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (Vec::new(), Vec::new());
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        keys.push(self.of(&entry.key));
                        values.push(self.of(&entry.value));
                    }
                }
                let size = keys.len() as u64;
                let ((a, key), (b, value)) = (joined(keys), joined(values));
                (NEW_MAP.saturating_add(a).saturating_add(b), Shape::map(size, key, value))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Call(call) => self.call(call),
            Expr::Struct(_) | Expr::Unspecified => (UNKNOWN, Shape::Any(UNKNOWN)),
        }
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Costly {
        let (range_cost, range) = self.of(&of.iter_range);
        let (init_cost, init) = self.of(&of.accu_init);
        self.scopes.push((of.accu_var.clone(), init.clone()));
        self.scopes.push((of.iter_var.clone(), range.inside().0));
        let (condition, _) = self.of(&of.loop_cond);
        let (step, stepped) = self.of(&of.loop_step);
        self.scopes.pop();
        let (result, _) = self.of(&of.result);
        self.scopes.pop();
        let loops = range.size().saturating_mul(condition.saturating_add(step));
        let cost = [range_cost, init_cost, result, loops].into_iter().fold(0, u64::saturating_add);
        let shape = match (init, stepped) {
            (Shape::List(..), Shape::List(_, inside)) => Shape::List(range.size(), inside),
            (init, _) => init,
        };
        (cost, shape)
    }

    fn call(&mut self, call: &CallExpr) -> Costly {
        let name = call.func_name.as_str();
        if name == "bind"
            && call.target.as_deref().is_some_and(is_cel)
            && let [variable, value, body] = call.args.as_slice()
            && let Expr::Ident(variable) = &variable.expr
        {
            let (cost, shape) = self.of(value);
            self.scopes.push((variable.clone(), shape));
            let (more, shape) = self.of(body);
            self.scopes.pop();
            return (NEW_LIST.saturating_add(cost).saturating_add(more), shape);
        }
        let space = call.target.as_deref().and_then(space);
        let space = space.filter(|space| !self.scopes.iter().any(|(known, _)| known == space));
        let whole = space.map(|space| format!("{space}.{name}"));
        let target = call.target.as_deref().filter(|_| space.is_none()).map(|target| self.of(target));
        let args: Vec<Costly> = call.args.iter().map(|arg| self.of(arg)).collect();
        let costs: Vec<u64> = args.iter().map(|(cost, _)| *cost).collect();
        let before = target.iter().map(|(cost, _)| *cost).chain(costs.iter().copied());
        let before = before.fold(0, u64::saturating_add);
        let shapes: Vec<Shape> = args.into_iter().map(|(_, shape)| shape).collect();
        if let ("_?_:_", [condition, yes, no], [_, a, b]) = (name, &costs[..], &shapes[..]) {
            return (condition.saturating_add(*yes.max(no)), a.clone().or(b.clone()));
        }
        let target = target.map(|(_, shape)| shape);
        if let Some(size) = made(whole.as_deref().unwrap_or(name), target.as_ref(), &call.args) {
            let inside = target.map_or(Shape::One, |target| target.inside().0);
            let cost = before.saturating_add(size).saturating_add(NEW_LIST + 1);
            return (cost, Shape::List(size, Box::new(inside)));
        }
        let (own, shape) = function(whole.as_deref().unwrap_or(name), target.as_ref(), &shapes);
        (before.saturating_add(own), shape)
    }
}

/// How long a list is that a function makes which is told so; `None` for others.
fn made(name: &str, target: Option<&Shape>, args: &[IdedExpr]) -> Option<u64> {
    let literal = |expr: &IdedExpr| match &expr.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(u64::try_from(*number.inner()).unwrap_or_default()),
        _ => None,
    };
    match (name, target, args) {
        ("lists.range", None, [most]) => Some(literal(most).unwrap_or(UNKNOWN)),
        ("slice", Some(list), [from, to]) => Some(match (literal(from), literal(to)) {
            (Some(from), Some(to)) => to.checked_sub(from).unwrap_or(UNKNOWN),
            _ => list.size(),
        }),
        _ => None,
    }
}

fn joined(all: Vec<Costly>) -> Costly {
    let cost = all.iter().map(|(cost, _)| *cost).fold(0, u64::saturating_add);
    let shape = all.into_iter().map(|(_, shape)| shape).reduce(Shape::or);
    (cost, shape.unwrap_or(Shape::Any(0)))
}

fn of_literal(literal: &LiteralValue) -> Shape {
    match literal {
        LiteralValue::String(text) => Shape::Text(text.inner().len() as u64),
        LiteralValue::Bytes(bytes) => Shape::Text(bytes.inner().len() as u64),
        _ => Shape::One,
    }
}

/// What calling costs beside what its operands do, and what comes out.
fn function(name: &str, target: Option<&Shape>, args: &[Shape]) -> Costly {
    let first = target.or(args.first());
    let of_text = |shape: &Shape, times: f64| part(shape.size(), times * TRAVERSAL);
    let unknown = || Shape::Any(UNKNOWN);
    match (name, first, args) {
        ("_&&_" | "_||_", _, _) => (0, Shape::One),
        ("_==_" | "_!=_", Some(Shape::Network), [_, Shape::Network]) => (1, Shape::One),
        ("_==_" | "_!=_" | "_<_" | "_>_" | "_<=_" | "_>=_", _, [a, b]) => {
            let is_plain = |shape: &Shape| matches!(shape, Shape::One);
            match !name.contains("=_") && (is_plain(a) || is_plain(b)) {
                true => (1, Shape::One),
                false => (part(a.size().min(b.size()), TRAVERSAL), Shape::One),
            }
        }
        ("@in", _, [_, all]) => match all {
            Shape::Map(..) => (1, Shape::One),
            all => (all.size(), Shape::One),
        },
        ("_[_]", Some(of), _) => (1, of.inside().1),
        ("_+_", _, [Shape::One, _] | [_, Shape::One]) => (1, Shape::One),
        ("_+_", _, [Shape::List(a, c), Shape::List(b, d)]) => {
            let inside = Box::new((**c).clone().or((**d).clone()));
            (1, Shape::List(a.saturating_add(*b), inside))
        }
        ("_+_", _, [a, b]) => {
            let size = a.size().saturating_add(b.size());
            let shape = match (a, b) {
                (Shape::Text(_), _) | (_, Shape::Text(_)) => Shape::Text(size),
                _ => Shape::Any(size),
            };
            (part(size, TRAVERSAL).max(1), shape)
        }
        ("startsWith" | "endsWith", _, [other]) => (text(other), Shape::One),
        ("contains", Some(whole), [other]) => (text(whole).saturating_mul(text(other)), Shape::One),
        ("matches" | "find" | "findAll", Some(whole), [.., pattern])
            if target.is_none() || args.len() == 1 =>
        {
            (searched(whole, pattern), found(name, whole))
        }
        ("find" | "findAll", Some(whole), [pattern, ..]) => (searched(whole, pattern), found(name, whole)),
        ("lowerAscii" | "upperAscii" | "substring" | "trim" | "url", Some(whole), _) => {
            (text(whole), Shape::Text(whole.size()))
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(of), _) => match of {
            Shape::List(size, inside) => {
                // How long texts in a list are, nobody says.
                let more = if matches!(**inside, Shape::Text(_)) { part(UNKNOWN, TRAVERSAL) } else { 0 };
                (size.saturating_mul(more.saturating_add(1)), (**inside).clone())
            }
            other => (text(other), Shape::One),
        },
        ("split", Some(whole), [_, ..]) => {
            (of_text(whole, 2.0), Shape::List(whole.size(), Box::new(Shape::Text(whole.size()))))
        }
        ("replace", Some(whole), [from, to, ..]) => {
            let times = match (from.size(), to.size()) {
                (0, _) => whole.size().saturating_add(1),
                (from, to) if to <= from => 0,
                (from, _) => whole.size().div_ceil(from),
            };
            let kept = if times == 0 || from.size() == 0 { whole.size() } else { 0 };
            let size = times.saturating_mul(to.size()).saturating_add(kept);
            (of_text(whole, 2.0), Shape::Text(size))
        }
        ("join", Some(list), rest) => {
            let between = rest.first().map_or(0, Shape::size).saturating_mul(list.size().saturating_sub(1));
            let size = list.size().saturating_mul(UNKNOWN).saturating_add(between);
            (part(size, TRAVERSAL), Shape::Text(size))
        }
        ("ip", Some(_), []) => (1, Shape::Network),
        ("cidr" | "ip", _, [of]) => (text(of), Shape::Network),
        ("isIP" | "isCIDR" | "isURL" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [of, ..]) => {
            (if name == "isURL" { 1 } else { text(of) }, Shape::One)
        }
        ("ip.isCanonical", _, [of]) => (of_text(of, 2.0), Shape::One),
        ("containsIP", _, [of]) => (4 + if *of == Shape::Network { 0 } else { text(of) }, Shape::One),
        ("containsCIDR", _, [of]) => (7 + if *of == Shape::Network { 0 } else { text(of) }, Shape::One),
        ("masked", _, _) => (1, Shape::Network),
        ("format", Some(whole), _) => (text(whole), Shape::Text(UNKNOWN)),
        ("bytes", _, [of]) => (text(of), Shape::Text(of.size().saturating_mul(4))),
        ("strings.quote", _, [of]) => (text(of), Shape::Text(of.size().saturating_mul(2).saturating_add(2))),
        (
            "string" | "charAt" | "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath",
            ..,
        ) => (1, Shape::Text(UNKNOWN)),
        ("flatten" | "reverse", Some(list), _) => (list.size().saturating_add(NEW_LIST + 1), list.clone()),
        ("distinct" | "sort", Some(list), _) => {
            let size = list.size();
            let twice = size.saturating_mul(size).saturating_mul(2);
            (twice.saturating_add(NEW_LIST + 1), list.clone())
        }
        ("sets.contains" | "sets.intersects", _, [a, b]) => {
            (a.size().saturating_mul(b.size()).saturating_add(1), Shape::One)
        }
        ("sets.equivalent", _, [a, b]) => {
            (a.size().saturating_mul(b.size()).saturating_mul(2).saturating_add(1), Shape::One)
        }
        ("dyn", Some(of), _) => (1, of.clone()),
        ("getQuery", ..) => (1, unknown()),
        _ => (1, Shape::One),
    }
}

fn searched(whole: &Shape, pattern: &Shape) -> u64 {
    part(whole.size().saturating_add(1), TRAVERSAL).saturating_mul(part(pattern.size(), PATTERN))
}

fn found(name: &str, whole: &Shape) -> Shape {
    match name {
        "find" => Shape::Text(whole.size()),
        "findAll" => Shape::List(whole.size(), Box::new(Shape::Text(whole.size()))),
        _ => Shape::One,
    }
}
