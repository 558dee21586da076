use schema::object::Object;

use crate::field::Errors;

/// Which part of an object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object without its status.
    Main,
    /// The status alone.
    Status,
    /// Another subresource (`scale`, `binding`, `resize`, `ephemeralcontainers`, `approval`, `finalize`), which has
    /// made its change itself.
    Other(&'static str),
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading, in upstream's spelling (`Name`, `Nominated Node`).
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub ty: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// 0: always shown; 1: with `-o wide` only.
    pub priority: i32,
}

/// The contents of one cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
}

/// What is particular to a kind. Every function is pure and may be called with any decodable object.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Fills in defaults.
    pub defaults: fn(&mut Object),
    /// Clears what a creator may not set, and sets what every new object has (generation).
    pub prepare_create: fn(&mut Object),
    /// Puts back what this write may not change (`new` becomes what will be stored), and raises the generation
    /// when the specification changed.
    pub prepare_update: fn(new: &mut Object, old: &Object, part: Part),
    /// What is wrong with a new object, metadata excluded.
    pub validate: fn(&Object, &mut Errors),
    /// What is wrong with a change, metadata excluded; the new object has its own `validate` called too.
    pub validate_update: fn(new: &Object, old: &Object, part: Part, errors: &mut Errors),
    /// The columns of `kubectl get`.
    pub columns: &'static [Column],
    /// One row of them; `now` in seconds since 1970, for ages.
    pub cells: fn(&Object, now: i64) -> Vec<Cell>,
    /// Field selectors beside `metadata.name` and `metadata.namespace`, with where their value is found.
    pub selectable: &'static [(&'static str, fn(&Object) -> String)],
    /// What `metadata.name` must be.
    pub name: crate::meta::NameRule,
}

/// The rules of a kind; those that every object has where the kind has none of its own.
pub fn rules(group: &str, kind: &str) -> Rules {
    let _ = (group, kind);
    GENERIC
}

/// The rules of a kind that has none of its own.
pub const GENERIC: Rules = Rules {
    defaults: |_| {},
    prepare_create: generic_prepare_create,
    prepare_update: generic_prepare_update,
    validate: |_, _| {},
    validate_update: |_, _, _, _| {},
    columns: &[
        Column { name: "Name", ty: "string", format: "name", priority: 0 },
        Column { name: "Age", ty: "string", format: "", priority: 0 },
    ],
    cells: |object, now| vec![Cell::Text(object.name().to_owned()), Cell::Text(crate::meta::age(object, now))],
    selectable: &[],
    name: crate::meta::NameRule::Subdomain,
};

/// Clears the status and begins with generation 1 where the kind has a specification.
pub fn generic_prepare_create(object: &mut Object) {
    object.remove("status");
    if object.ty().field("spec").is_some() {
        object.set_generation(1);
    }
}

/// Keeps the status in a write of the object, everything else in a write of the status, and raises the
/// generation when anything but metadata and status changed.
pub fn generic_prepare_update(new: &mut Object, old: &Object, part: Part) {
    match part {
        Part::Main | Part::Other(_) => {
            if part == Part::Main && new.ty().field("status").is_some() {
                match old.get("status") {
                    Some(status) => {
                        new.set("status", status.clone());
                    }
                    None => {
                        new.remove("status");
                    }
                }
            }
            let changed = new.ty().field("spec").is_some() && new.get("spec") != old.get("spec");
            new.set_generation(old.generation() + i64::from(changed));
        }
        Part::Status => {
            let status = new.remove("status");
            let managed = new.metadata().get("managedFields").cloned();
            let annotations = new.metadata().get("annotations").cloned();
            let labels = new.metadata().get("labels").cloned();
            let version = new.resource_version().to_owned();
            *new = old.clone();
            if let Some(status) = status {
                new.set("status", status);
            }
            let _ = (annotations, labels);
            new.set_resource_version(&version);
            if let Some(managed) = managed {
                new.metadata_mut().set("managedFields", managed);
            }
        }
    }
}
