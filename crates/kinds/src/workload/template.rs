//! What becomes of the template of whatever makes pods before it is stored: it loses the fields of features that are off.

use schema::Object;

use crate::edit::within;
use crate::pod::unserved;
use crate::rules::{Part, generic_prepare_create, generic_prepare_update};

/// Where a kind has its template.
const SPEC: [&str; 2] = ["spec", "template"];
/// Where a `CronJob` has that of its jobs.
const OF_JOBS: [&str; 4] = ["spec", "jobTemplate", "spec", "template"];

/// A new object.
pub(super) fn created(object: &mut Object) {
    generic_prepare_create(object);
    clean(object, &SPEC);
}

/// A new `CronJob`.
pub(super) fn cron_job_created(object: &mut Object) {
    generic_prepare_create(object);
    clean(object, &OF_JOBS);
}

/// A changed object: what was stored with such fields keeps them.
pub(super) fn updated(new: &mut Object, old: &Object, part: Part) {
    keep_clean(new, old, &SPEC);
    generic_prepare_update(new, old, part);
}

/// A changed `CronJob`.
pub(super) fn cron_job_updated(new: &mut Object, old: &Object, part: Part) {
    keep_clean(new, old, &OF_JOBS);
    generic_prepare_update(new, old, part);
}

fn keep_clean(new: &mut Object, old: &Object, path: &[&str]) {
    if !old.struct_at(path).is_some_and(unserved::is_used) {
        clean(new, path);
    }
}

fn clean(object: &mut Object, path: &[&str]) {
    match path {
        [] => unserved::drop(object),
        [first, rest @ ..] => within(object, first, |inner| clean(inner, rest)),
    }
}

#[cfg(test)]
mod tests {
    use schema::Object;

    use super::*;

    fn object(group: &str, kind: &str, spec: &str) -> Object {
        let kind = schema::catalogue::builtin().kind(group, "v1", kind).unwrap();
        let json = format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#);
        schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object
    }

    #[test]
    fn features_that_are_off_leave_templates_but_not_those_that_have_them() {
        let pod = r#"{"spec":{"schedulingGroup":{"podGroupName":"g"},"containers":[]}}"#;
        let group = [&SPEC[..], &["spec", "schedulingGroup"]].concat();
        let stored = object("apps", "Deployment", &format!(r#"{{"template":{pod}}}"#));
        let mut made = stored.clone();
        created(&mut made);
        assert!(stored.at(&group).is_some() && made.at(&group).is_none());
        let mut changed = stored.clone();
        updated(&mut changed, &stored, Part::Main);
        assert!(changed.at(&group).is_some(), "as it was");
        updated(&mut changed, &made, Part::Main);
        assert!(changed.at(&group).is_none(), "not anew");
        let jobs = format!(r#"{{"jobTemplate":{{"spec":{{"template":{pod}}}}}}}"#);
        let stored = object("batch", "CronJob", &jobs);
        let group = [&OF_JOBS[..], &["spec", "schedulingGroup"]].concat();
        let mut made = stored.clone();
        cron_job_created(&mut made);
        assert!(stored.at(&group).is_some() && made.at(&group).is_none());
    }
}
