//! The types of expressions, and which functions there are for them.

use std::fmt;

/// A type, as the checker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Quantity,
    Semver,
    Device,
}

impl Type {
    pub fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub fn map(from: Self, to: Self) -> Self {
        Self::Map(Box::new(from), Box::new(to))
    }

    /// Whether a value of this type may stand where that one is wanted; what is not known may.
    pub fn fits(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::List(a), Self::List(b)) => a.fits(b),
            (Self::Map(a, b), Self::Map(c, d)) => a.fits(c) && b.fits(d),
            (a, b) => a == b,
        }
    }

    /// What two alternatives come to.
    pub fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Null => f.write_str("null_type"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(from, to) => write!(f, "map({from}, {to})"),
            Self::Quantity => f.write_str("kubernetes.Quantity"),
            Self::Semver => f.write_str("kubernetes.Semver"),
            Self::Device => f.write_str("kubernetes.DRADevice"),
        }
    }
}

/// What `device` has.
pub fn field(name: &str) -> Option<Type> {
    let domains = |of| Type::map(Type::Text, Type::map(Type::Text, of));
    match name {
        "driver" => Some(Type::Text),
        "allowMultipleAllocations" => Some(Type::Bool),
        "attributes" => Some(domains(Type::Any)),
        "capacity" => Some(domains(Type::Quantity)),
        _ => None,
    }
}

/// One way to call a function: of a value or by itself, with these, for this.
pub struct Overload(pub &'static str, pub Option<Type>, pub Vec<Type>, pub Type);

/// All functions (`cel-go`'s standard ones and strings, and Kubernetes' lists, quantities and versions).
pub fn overloads(name: &str) -> Vec<Overload> {
    use Type::{Any, Bool, Bytes, Double, Int, Quantity, Semver, Text, Uint};
    let of = |name, of, args: &[Type], gives| Overload(name, Some(of), args.to_vec(), gives);
    let free = |name, args: &[Type], gives| Overload(name, None, args.to_vec(), gives);
    let any_list = || Type::list(Any);
    let all = vec![
        free("size", &[Text], Int),
        free("size", &[Bytes], Int),
        free("size", &[any_list()], Int),
        free("size", &[Type::map(Any, Any)], Int),
        of("size", Text, &[], Int),
        of("size", Bytes, &[], Int),
        of("size", any_list(), &[], Int),
        of("size", Type::map(Any, Any), &[], Int),
        of("contains", Text, &[Text], Bool),
        of("startsWith", Text, &[Text], Bool),
        of("endsWith", Text, &[Text], Bool),
        of("matches", Text, &[Text], Bool),
        free("matches", &[Text, Text], Bool),
        of("lowerAscii", Text, &[], Text),
        of("upperAscii", Text, &[], Text),
        of("trim", Text, &[], Text),
        of("replace", Text, &[Text, Text], Text),
        of("split", Text, &[Text], Type::list(Text)),
        of("substring", Text, &[Int], Text),
        of("substring", Text, &[Int, Int], Text),
        of("indexOf", Text, &[Text], Int),
        of("lastIndexOf", Text, &[Text], Int),
        of("find", Text, &[Text], Text),
        of("join", Type::list(Text), &[], Text),
        of("join", Type::list(Text), &[Text], Text),
        free("int", &[Int], Int),
        free("int", &[Uint], Int),
        free("int", &[Double], Int),
        free("int", &[Text], Int),
        free("double", &[Int], Double),
        free("double", &[Double], Double),
        free("double", &[Text], Double),
        free("string", &[Text], Text),
        free("string", &[Int], Text),
        free("string", &[Uint], Text),
        free("string", &[Bool], Text),
        free("dyn", &[Any], Any),
        free("quantity", &[Text], Quantity),
        free("isQuantity", &[Text], Bool),
        of("sign", Quantity, &[], Int),
        of("isInteger", Quantity, &[], Bool),
        of("asInteger", Quantity, &[], Int),
        of("asApproximateFloat", Quantity, &[], Double),
        of("add", Quantity, &[Quantity], Quantity),
        of("add", Quantity, &[Int], Quantity),
        of("sub", Quantity, &[Quantity], Quantity),
        of("sub", Quantity, &[Int], Quantity),
        free("semver", &[Text], Semver),
        free("semver", &[Text, Bool], Semver),
        free("isSemver", &[Text], Bool),
        free("isSemver", &[Text, Bool], Bool),
        of("major", Semver, &[], Int),
        of("minor", Semver, &[], Int),
        of("patch", Semver, &[], Int),
        of("isGreaterThan", Quantity, &[Quantity], Bool),
        of("isGreaterThan", Semver, &[Semver], Bool),
        of("isLessThan", Quantity, &[Quantity], Bool),
        of("isLessThan", Semver, &[Semver], Bool),
        of("compareTo", Quantity, &[Quantity], Int),
        of("compareTo", Semver, &[Semver], Int),
    ];
    all.into_iter().filter(|overload| overload.0 == name).collect()
}
