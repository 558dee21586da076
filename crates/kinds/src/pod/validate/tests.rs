//! Every pod of `cases.txt` gets the errors and warnings that a kube-apiserver gave it; those of `gated.txt` have fields
//! that v1.37 keeps behind gates, and get what its documentation says.

use schema::Object;

use crate::field::Errors;
use crate::rules::Part;

struct Case {
    pod: Object,
    errors: Vec<String>,
    warnings: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(error) = line.strip_prefix("! ") {
            cases.last_mut().unwrap().errors.push(error.to_owned());
        } else if let Some(warning) = line.strip_prefix("? ") {
            cases.last_mut().unwrap().warnings.push(warning.to_owned());
        } else if line.starts_with('{') {
            let pod = schema::json::decode(&kind.ty, line.as_bytes()).unwrap().object;
            cases.push(Case { pod, errors: Vec::new(), warnings: Vec::new() });
        }
    }
    cases
}

#[test]
fn pods_are_judged_as_upstream_judges_them() {
    let cases = cases(include_str!("cases.txt"));
    assert!(cases.len() > 70, "{}", cases.len());
    judge(&cases);
}

#[test]
fn fields_behind_gates_are_judged_when_they_are_there() {
    judge(&cases(include_str!("gated.txt")));
}

fn judge(cases: &[Case]) {
    let rules = crate::pod::RULES;
    for case in cases {
        let mut pod = case.pod.clone();
        (rules.defaults)(&mut pod);
        (rules.prepare_create)(&mut pod);
        let mut errors = Errors::new();
        (rules.validate_create)(&pod, &mut errors);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts, case.errors, "{:?}", case.pod);
        let warnings = (rules.warnings)(&pod, None, Part::Main);
        if errors.is_empty() {
            assert_eq!(warnings, case.warnings, "{:?}", case.pod);
        }
    }
}
