//! What becomes of the template of whatever makes pods before it is stored: it loses the fields of features that are off.

use schema::Object;

use crate::edit::within;
use crate::gates::Gates;
use crate::pod::unserved;
use crate::rules::Part;

/// Where a kind has its template.
const SPEC: [&str; 2] = ["spec", "template"];
/// Where a `CronJob` has that of its jobs.
const OF_JOBS: [&str; 4] = ["spec", "jobTemplate", "spec", "template"];

/// A new or changed object.
pub(super) fn gated(new: &mut Object, old: Option<&Object>, part: Part, gates: Gates) {
    clean(new, old, part, &SPEC, gates);
}

/// A new or changed `CronJob`.
pub(super) fn cron_job_gated(new: &mut Object, old: Option<&Object>, part: Part, gates: Gates) {
    clean(new, old, part, &OF_JOBS, gates);
}

fn clean(new: &mut Object, old: Option<&Object>, part: Part, path: &[&str], gates: Gates) {
    // A write of a part changes nothing of the template.
    if part != Part::Main {
        return;
    }
    let old = old.and_then(|old| old.struct_at(path));
    at(new, path, &mut |template| unserved::drop(template, old, gates));
}

fn at(object: &mut Object, path: &[&str], change: &mut dyn FnMut(&mut Object)) {
    match path {
        [] => change(object),
        [first, rest @ ..] => within(object, first, |inner| at(inner, rest, change)),
    }
}

#[cfg(test)]
mod tests {
    use schema::Object;

    use super::*;
    use crate::gates::Gate;

    fn object(group: &str, kind: &str, spec: &str) -> Object {
        let kind = schema::catalogue::builtin().kind(group, "v1", kind).unwrap();
        let json = format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#);
        schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object
    }

    #[test]
    fn features_that_are_off_leave_templates_but_not_those_that_have_them() {
        let off = Gates::default();
        let pod = r#"{"spec":{"schedulingGroup":{"podGroupName":"g"},"containers":[],
            "volumes":[{"name":"v","emptyDir":{"mode":448}}]}}"#;
        let group = [&SPEC[..], &["spec", "schedulingGroup"]].concat();
        let volumes = [&SPEC[..], &["spec", "volumes"]].concat();
        let stored = object("apps", "Deployment", &format!(r#"{{"template":{pod}}}"#));
        let mut made = stored.clone();
        gated(&mut made, None, Part::Main, off);
        assert!(stored.at(&group).is_some() && made.at(&group).is_none());
        assert_ne!(made.at(&volumes), stored.at(&volumes), "the mode is gone");
        let mut on = stored.clone();
        gated(&mut on, None, Part::Main, off.with(Gate::EmptyDirVolumeMode, true));
        assert!(on.at(&group).is_none(), "nobody has it");
        assert_eq!(on.at(&volumes), stored.at(&volumes), "the mode is kept");
        let mut changed = stored.clone();
        gated(&mut changed, Some(&on), Part::Main, off);
        assert_eq!(changed, on, "what it had stays, what it had not goes");
        gated(&mut changed, Some(&made), Part::Main, off);
        assert_eq!(changed, made, "not anew");
        let jobs = format!(r#"{{"jobTemplate":{{"spec":{{"template":{pod}}}}}}}"#);
        let stored = object("batch", "CronJob", &jobs);
        let group = [&OF_JOBS[..], &["spec", "schedulingGroup"]].concat();
        let mut made = stored.clone();
        cron_job_gated(&mut made, None, Part::Main, off);
        assert!(stored.at(&group).is_some() && made.at(&group).is_none());
    }
}
