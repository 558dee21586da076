use std::sync::OnceLock;

/// A built-in resource, in one of the versions it is served in.
#[derive(Debug, Clone)]
pub struct Row {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version, such as `v1`.
    pub version: &'static str,
    /// The kind, such as `Pod`.
    pub kind: &'static str,
    /// The resource's name in paths, such as `pods`.
    pub plural: &'static str,
    /// The name of a single one, such as `pod`.
    pub singular: &'static str,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Such as `po`.
    pub short_names: Vec<&'static str>,
    /// Such as `all`.
    pub categories: Vec<&'static str>,
    /// What can be done with it.
    pub verbs: Vec<&'static str>,
    /// Where it is stored, below the cluster's prefix; `None` when it is not stored (reviews, bindings).
    pub storage_prefix: Option<&'static str>,
    /// Group and version in which it is stored.
    pub storage: (&'static str, &'static str),
    /// What lies below an object of it.
    pub subresources: Vec<Subresource>,
}

/// A subresource of a [`Row`].
#[derive(Debug, Clone)]
pub struct Subresource {
    /// Such as `status`.
    pub name: &'static str,
    /// Group, version and kind of what is sent there.
    pub gvk: (&'static str, &'static str, &'static str),
    /// What can be done with it.
    pub verbs: Vec<&'static str>,
}

impl Row {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether the version is served without being asked for: a stable one, and what every client asks for who wants to know
    /// what pods use.
    pub fn is_stable(&self) -> bool {
        self.group == "metrics.k8s.io" || !self.version.contains("alpha") && !self.version.contains("beta")
    }
}

const STANDARD_VERBS: &str = "create,delete,deletecollection,get,list,patch,update,watch";

/// Every built-in resource of Kubernetes v1.37, groups in the order in which upstream prefers them and
/// versions in their priority.
pub fn table() -> &'static [Row] {
    static TABLE: OnceLock<Vec<Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        include_str!("../data/kinds.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(parse)
            .collect()
    })
}

fn parse(line: &'static str) -> Option<Row> {
    let mut columns = line.split('|');
    let mut next = || columns.next();
    let group = next()?;
    let version = next()?;
    let kind = next()?;
    let plural = next()?;
    let singular = next()?;
    let namespaced = next()? == "N";
    let short_names = list(next()?);
    let categories = list(next()?);
    let verbs = verbs(next()?);
    let storage_prefix = Some(next()?).filter(|prefix| !prefix.is_empty());
    let storage = next()?;
    let storage = storage.split_once('/').unwrap_or(("", storage));
    let subresources = next()?.split_whitespace().filter_map(subresource).collect();
    Some(Row {
        group,
        version,
        kind,
        plural,
        singular,
        namespaced,
        short_names,
        categories,
        verbs,
        storage_prefix,
        storage,
        subresources,
    })
}

fn subresource(text: &'static str) -> Option<Subresource> {
    let mut parts = text.split(':');
    let name = parts.next()?;
    let mut gvk = parts.next()?.split('/');
    let gvk = (gvk.next()?, gvk.next()?, gvk.next()?);
    Some(Subresource { name, gvk, verbs: verbs(parts.next()?) })
}

fn verbs(text: &'static str) -> Vec<&'static str> {
    list(if text == "*" { STANDARD_VERBS } else { text })
}

fn list(text: &'static str) -> Vec<&'static str> {
    text.split(',').filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row_and_every_row_has_a_type() {
        let lines = include_str!("../data/kinds.txt").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(table().len(), lines);
        for row in table() {
            assert!(
                schema::catalogue::builtin().kind(row.group, row.version, row.kind).is_some(),
                "{} {} is not in the catalogue",
                row.api_version(),
                row.kind
            );
            for sub in &row.subresources {
                let (group, version, kind) = sub.gvk;
                assert!(
                    schema::catalogue::builtin().kind(group, version, kind).is_some(),
                    "{kind} of {}/{}",
                    row.plural,
                    sub.name
                );
            }
        }
    }

    #[test]
    fn pods_are_as_upstream_has_them() {
        let pods = table().iter().find(|row| row.plural == "pods").unwrap();
        assert_eq!(pods.short_names, ["po"]);
        assert!(pods.namespaced && pods.is_stable());
        let eviction = pods.subresources.iter().find(|sub| sub.name == "eviction").unwrap();
        assert_eq!(eviction.gvk, ("policy", "v1", "Eviction"));
    }
}
