//! The catalogue of built-in types: `data/catalogue.txt`, indexed once and parsed type by type as
//! types are first used.
//!
//! It lives for the process's whole life; a [`StructRef`] to a built-in type is a plain reference.

mod parse;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::types::{Kind, Struct, StructRef};

const TEXT: &str = include_str!("../data/catalogue.txt");

/// A built-in struct type, parsed at first use.
#[derive(Debug)]
pub struct LazyStruct {
    name: String,
    package: &'static str,
    header: &'static str,
    body: &'static str,
    kinds: Vec<(String, String, String)>,
    cell: OnceLock<Struct>,
}

impl LazyStruct {
    #[inline]
    pub(crate) fn get(&self) -> &Struct {
        self.cell.get_or_init(|| parse::parse_struct(self))
    }
}

/// All built-in kinds and types.
#[derive(Debug)]
pub struct Catalogue {
    structs: &'static [LazyStruct],
    by_name: HashMap<&'static str, usize>,
    kinds: Vec<Kind>,
    by_gvk: HashMap<(&'static str, &'static str, &'static str), usize>,
}

/// The catalogue of this Kubernetes version.
pub fn builtin() -> &'static Catalogue {
    static CATALOGUE: OnceLock<&'static Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| parse::index(TEXT))
}

impl Catalogue {
    /// None when there is no such built-in kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
        // The catalogue is only ever reached through `builtin`, and so is static itself.
        let this = builtin();
        this.by_gvk.get(&(group, version, kind)).and_then(|i| this.kinds.get(*i))
    }

    pub fn kinds(&self) -> impl Iterator<Item = &'static Kind> + use<> {
        builtin().kinds.iter()
    }

    /// By OpenAPI style name, such as `io.k8s.api.core.v1.Pod`.
    pub fn type_named(&self, name: &str) -> Option<StructRef> {
        let this = builtin();
        let index = this.by_name.get(name)?;
        this.structs.get(*index).map(StructRef::Builtin)
    }

    /// The names of all struct types.
    pub fn type_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        builtin().structs.iter().map(|s| s.name.as_str())
    }
}
