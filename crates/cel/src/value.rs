//! Values that expressions work with.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schema::quantity::Quantity;
use semver::Version;

use crate::functions::Url;

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<Vec<Value>>),
    Map(Arc<Map>),
    Quantity(Quantity),
    Semver(Version),
    Time(Timestamp),
    Duration(SignedDuration),
    Ip(IpAddr),
    Cidr(Cidr),
    Url(Arc<Url>),
}

/// A network: an address in it, and how many of the address' first bits all of it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub length: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A map. One that is open gives an empty map for a key that it does not have.
#[derive(Debug, Clone, Default)]
pub struct Map {
    pub entries: Vec<(Value, Value)>,
    pub is_open: bool,
}

impl Map {
    pub fn get(&self, key: &Value) -> Option<Value> {
        let found = self.entries.iter().find(|(known, _)| known.equals(key));
        let found = found.map(|(_, value)| value.clone());
        found.or_else(|| self.is_open.then(|| Value::Map(Arc::default())))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// The type's name, as upstream tells it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
        }
    }

    /// As upstream's own types are called.
    pub fn go_name(&self) -> &'static str {
        match self {
            Self::Null => "types.Null",
            Self::Bool(_) => "types.Bool",
            Self::Int(_) => "types.Int",
            Self::Uint(_) => "types.Uint",
            Self::Double(_) => "types.Double",
            Self::Text(_) => "types.String",
            Self::Bytes(_) => "types.Bytes",
            Self::List(_) => "types.List",
            Self::Map(_) => "types.Map",
            Self::Quantity(_) => "cel.Quantity",
            Self::Semver(_) => "cel.Semver",
            Self::Time(_) => "types.Timestamp",
            Self::Duration(_) => "types.Duration",
            Self::Ip(_) => "cel.IP",
            Self::Cidr(_) => "cel.CIDR",
            Self::Url(_) => "cel.URL",
        }
    }

    /// As it stands in a message.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Uint(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            other => other.type_name().to_owned(),
        }
    }

    /// What comparing it with something costs: a tenth of its length.
    pub fn weight(&self) -> u64 {
        let length = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len() * 10,
            Self::Map(map) => map.entries.len() * 10,
            _ => 1,
        };
        (length as u64).div_ceil(10)
    }

    /// Equality; numbers are equal by what they are worth, and values of different types are not.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b))
            }
            (Self::Map(a), Self::Map(b)) => {
                let same = |(key, value): &(Self, Self)| {
                    b.entries.iter().any(|(k, v)| k.equals(key) && v.equals(value))
                };
                a.entries.len() == b.entries.len() && a.entries.iter().all(same)
            }
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }

    /// The order of two values that have one.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            // What was added to a version does not count.
            (Self::Semver(a), Self::Semver(b)) => Some(a.cmp_precedence(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Double(a), b) => a.partial_cmp(&b.float()?),
            (a, Self::Double(b)) => a.float()?.partial_cmp(b),
            (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            other => other.whole().map(|number| number as f64),
        }
    }
}
