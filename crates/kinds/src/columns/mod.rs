//! What `kubectl get` shows of the kinds whose printing is all that is particular to them, and of those whose
//! columns are many (`pkg/printers/internalversion/printers.go`).

mod admission;
mod controllers;
mod network;
mod policy;
mod storage;

use schema::{Object, Value};

use crate::edit;
use crate::meta::age;
use crate::rules::{Cell, Column};

/// The columns of a kind, and how a row of them is made; `now` in seconds since 1970.
pub(crate) type Printed = (&'static [Column], fn(&Object, now: i64) -> Vec<Cell>);

/// The columns of a kind that has some here.
pub(crate) fn printed(group: &str, kind: &str) -> Option<Printed> {
    controllers::printed(group, kind)
        .or_else(|| storage::printed(group, kind))
        .or_else(|| network::printed(group, kind))
        .or_else(|| policy::printed(group, kind))
        .or_else(|| admission::printed(group, kind))
}

const fn column(name: &'static str, ty: &'static str) -> Column {
    Column { name, ty, format: "", priority: 0 }
}

const fn text(name: &'static str) -> Column {
    column(name, "string")
}

/// A column that is shown by `-o wide` only.
const fn wide(name: &'static str) -> Column {
    Column { name, ty: "string", format: "", priority: 1 }
}

/// What is shown of kinds of which upstream prints nothing in particular.
const PLAIN: Printed = (&[NAME, column("Created At", "date")], |object, _| {
    let made = object.creation_timestamp().map(|time| time.to_string()).unwrap_or_default();
    vec![name(object), Cell::Text(made)]
});

pub(crate) const NAME: Column = Column { name: "Name", ty: "string", format: "name", priority: 0 };
pub(crate) const AGE: Column = text("Age");

pub(crate) fn name(object: &Object) -> Cell {
    Cell::Text(object.name().to_owned())
}

pub(crate) fn age_cell(object: &Object, now: i64) -> Cell {
    Cell::Text(age(object, now))
}

/// A text, or what is shown where there is none.
fn text_or(object: &Object, path: &[&str], none: &str) -> Cell {
    Cell::Text(object.str_at(path).unwrap_or(none).to_owned())
}

fn int(object: &Object, path: &[&str]) -> Cell {
    Cell::Int(object.int_at(path).unwrap_or_default())
}

fn count(object: &Object, path: &[&str]) -> Cell {
    Cell::Int(object.list_at(path).map_or(0, <[Value]>::len) as i64)
}

/// A number or a text, as an `IntOrString` is.
fn int_or_text(object: &Object, path: &[&str]) -> Option<String> {
    let value = object.at(path)?;
    value.as_int().map(|number| number.to_string()).or_else(|| value.as_str().map(str::to_owned))
}

/// The texts of a list, joined.
fn joined(object: &Object, path: &[&str]) -> String {
    let list = object.list_at(path).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// A label selector as it reads; `<none>` for one that selects everything.
fn selector(object: &Object, path: &[&str]) -> Cell {
    Cell::Text(match schema::labels::Selector::from_label_selector(object.struct_at(path)) {
        Ok(selector) if !selector.to_string().is_empty() => selector.to_string(),
        _ => "<none>".to_owned(),
    })
}

/// Labels as `key=value,…`, sorted by key.
fn labels(object: &Object, path: &[&str]) -> Cell {
    let map = object.map_at(path);
    let mut pairs: Vec<String> =
        map.into_iter().flat_map(schema::Map::strings).map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    Cell::Text(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") })
}

/// The names and the images of containers, each as a cell.
fn containers(object: &Object, path: &[&str]) -> [Cell; 2] {
    ["name", "image"].map(|field| {
        let all: Vec<&str> =
            edit::structs(object, path).map(|container| edit::get(container, &[field])).collect();
        Cell::Text(all.join(","))
    })
}

/// A kind and a name as `kind.group/name`, in lower case but for the name.
fn owner(object: &Object) -> String {
    let owners = object.owner_references().iter().filter_map(Value::as_struct);
    let controller = owners.into_iter().find(|owner| owner.bool_at(&["controller"]) == Some(true));
    let Some(controller) = controller else { return "<none>".to_owned() };
    let group = edit::get(controller, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
    let kind = edit::get(controller, &["kind"]).to_lowercase();
    let name = edit::get(controller, &["name"]);
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, version: &str, kind: &str, json: &str) -> Vec<Cell> {
        let found = schema::catalogue::builtin().kind(group, version, kind).unwrap();
        let object = schema::json::decode(&found.ty, json.as_bytes()).unwrap().object;
        let rules = crate::rules(group, kind);
        let cells = (rules.cells)(&object, 0);
        assert_eq!(cells.len(), rules.columns.len(), "{kind}");
        cells
    }

    fn texts(cells: &[Cell]) -> Vec<String> {
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            Cell::Int(number) => number.to_string(),
            Cell::Bool(flag) => flag.to_string(),
        };
        cells.iter().map(text).collect()
    }

    #[test]
    fn every_kind_has_a_cell_for_each_column() {
        for kind in crate::table() {
            row(kind.group, kind.version, kind.kind, "{}");
        }
    }

    #[test]
    fn a_job_shows_how_far_it_is() {
        let cells = row(
            "batch",
            "v1",
            "Job",
            r#"{"metadata": {"name": "a"}, "spec": {"completions": 3},
            "status": {"succeeded": 1, "startTime": "1970-01-01T00:00:00Z",
                       "completionTime": "1970-01-01T00:00:09Z", "conditions": [{"type": "Failed", "status": "True"}]}}"#,
        );
        assert_eq!(&texts(&cells)[..5], ["a", "Failed", "1/3", "9s", "<unknown>"]);
    }

    #[test]
    fn a_claim_shows_its_capacity_once_it_is_bound() {
        let claim = r#"{"metadata": {"name": "c"}, "spec": {"storageClassName": "fast", "volumeName": "v",
            "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}}"#;
        let cells = row("", "v1", "PersistentVolumeClaim", claim);
        let wanted = ["c", "Bound", "v", "2Gi", "RWO", "fast", "<unset>", "<unknown>", "Filesystem"];
        assert_eq!(texts(&cells), wanted);
    }

    #[test]
    fn an_ingress_shows_hosts_and_ports() {
        let ingress =
            r#"{"metadata": {"name": "i"}, "spec": {"tls": [{}], "rules": [{"host": "a"}, {"host": "b"}]}}"#;
        let cells = row("networking.k8s.io", "v1", "Ingress", ingress);
        assert_eq!(texts(&cells), ["i", "<none>", "a,b", "", "80, 443", "<unknown>"]);
    }
}
