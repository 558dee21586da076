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
    Time,
    Duration,
    Ip,
    Cidr,
    Url,
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
            Self::Time => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::Ip => f.write_str("net.IP"),
            Self::Cidr => f.write_str("net.CIDR"),
            Self::Url => f.write_str("kubernetes.URL"),
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

/// All functions (`cel-go`'s standard ones, strings, lists and sets, and Kubernetes' own).
pub fn overloads(name: &str) -> Vec<Overload> {
    use Type::{Any, Bool, Bytes, Double, Int, Quantity, Semver, Text, Uint};
    let of = |name, of, args: &[Type], gives| Overload(name, Some(of), args.to_vec(), gives);
    let free = |name, args: &[Type], gives| Overload(name, None, args.to_vec(), gives);
    let any_list = || Type::list(Any);
    let mut all = more();
    all.extend(vec![
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
        free("sign", &[Quantity], Int),
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
    ]);
    all.into_iter().filter(|overload| overload.0 == name).collect()
}

/// Those of times, addresses, lists and sets.
fn more() -> Vec<Overload> {
    use Type::{Any, Bool, Bytes, Cidr, Double, Duration, Int, Ip, Text, Time, Uint, Url};
    let of =
        |name, of: &Type, args: &[Type], gives: Type| Overload(name, Some(of.clone()), args.to_vec(), gives);
    let free = |name, args: &[Type], gives: Type| Overload(name, None, args.to_vec(), gives);
    let (any, texts) = (Type::list(Any), Type::list(Text));
    let mut all = vec![
        free("uint", &[Uint], Uint),
        free("uint", &[Int], Uint),
        free("uint", &[Double], Uint),
        free("uint", &[Text], Uint),
        free("bool", &[Bool], Bool),
        free("bool", &[Text], Bool),
        free("bytes", &[Bytes], Bytes),
        free("bytes", &[Text], Bytes),
        free("double", &[Uint], Double),
        free("string", &[Double], Text),
        free("string", &[Bytes], Text),
        free("timestamp", &[Time], Time),
        free("timestamp", &[Text], Time),
        free("timestamp", &[Int], Time),
        free("duration", &[Duration], Duration),
        free("duration", &[Text], Duration),
        free("duration", &[Int], Duration),
        free("int", &[Time], Int),
        free("int", &[Duration], Int),
        of("charAt", &Text, &[Int], Text),
        of("indexOf", &Text, &[Text, Int], Int),
        of("lastIndexOf", &Text, &[Text, Int], Int),
        of("replace", &Text, &[Text, Text, Int], Text),
        of("split", &Text, &[Text, Int], texts.clone()),
        of("findAll", &Text, &[Text], texts.clone()),
        of("findAll", &Text, &[Text, Int], texts.clone()),
        of("format", &Text, std::slice::from_ref(&any), Text),
        free("strings.quote", &[Text], Text),
        free("ip", &[Text], Ip),
        free("isIP", &[Text], Bool),
        free("ip.isCanonical", &[Text], Bool),
        of("family", &Ip, &[], Int),
        free("cidr", &[Text], Cidr),
        free("isCIDR", &[Text], Bool),
        of("ip", &Cidr, &[], Ip),
        of("masked", &Cidr, &[], Cidr),
        of("prefixLength", &Cidr, &[], Int),
        free("url", &[Text], Url),
        free("isURL", &[Text], Bool),
        of("getQuery", &Url, &[], Type::map(Text, texts.clone())),
        of("isSorted", &any, &[], Bool),
        of("indexOf", &any, &[Any], Int),
        of("lastIndexOf", &any, &[Any], Int),
        of("sum", &Type::list(Int), &[], Int),
        of("sum", &Type::list(Uint), &[], Uint),
        of("sum", &Type::list(Double), &[], Double),
        of("sum", &Type::list(Duration), &[], Duration),
        of("slice", &any, &[Int, Int], any.clone()),
        of("flatten", &Type::list(any.clone()), &[], any.clone()),
        of("flatten", &any, &[Int], any.clone()),
        of("distinct", &any, &[], any.clone()),
        of("reverse", &any, &[], any.clone()),
        free("lists.range", &[Int], Type::list(Int)),
    ];
    for kind in [Int, Uint, Double, Bool, Duration, Time, Text, Bytes] {
        let list = Type::list(kind.clone());
        all.extend(["min", "max"].map(|name| of(name, &list, &[], kind.clone())));
        all.push(of("sort", &list, &[], list.clone()));
    }
    for kind in [Time, Duration, Ip, Cidr] {
        all.push(free("string", &[kind], Text));
    }
    let about_ip =
        ["isUnspecified", "isLoopback", "isLinkLocalMulticast", "isLinkLocalUnicast", "isGlobalUnicast"];
    all.extend(about_ip.map(|name| of(name, &Ip, &[], Bool)));
    for kind in [Text, Ip] {
        all.push(of("containsIP", &Cidr, &[kind], Bool));
    }
    for kind in [Text, Cidr] {
        all.push(of("containsCIDR", &Cidr, &[kind], Bool));
    }
    let of_url = ["getScheme", "getHost", "getHostname", "getPort", "getEscapedPath"];
    all.extend(of_url.map(|name| of(name, &Url, &[], Text)));
    let sets = ["sets.contains", "sets.equivalent", "sets.intersects"];
    all.extend(sets.map(|name| free(name, &[any.clone(), any.clone()], Bool)));
    let of_clock = ["getHours", "getMinutes", "getSeconds", "getMilliseconds"];
    all.extend(of_clock.map(|name| of(name, &Duration, &[], Int)));
    let of_date = ["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfYear", "getDayOfWeek"];
    for name in of_clock.into_iter().chain(of_date) {
        all.push(of(name, &Time, &[], Int));
        all.push(of(name, &Time, &[Text], Int));
    }
    all
}
