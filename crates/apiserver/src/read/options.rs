//! `metav1.ListOptions`: what must be right of them before anything is read.

use kinds::field::{Errors, Path};

use crate::options::go_int;
use crate::pipeline::request::RequestInfo;
use crate::status::{ApiError, Result};

/// Checks the options of a list, or of a deletion of what a list names.
///
/// # Errors
/// 400 for numbers that are none, 422 for options that contradict each other.
pub fn check(info: &RequestInfo) -> Result<()> {
    numbers(info)?;
    let mut errors = Errors::new();
    let path = Path::new("resourceVersionMatch");
    let version = info.param("resourceVersion").unwrap_or_default();
    let matching = info.param("resourceVersionMatch").unwrap_or_default();
    if !matching.is_empty() {
        if version.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !info.param("continue").unwrap_or_default().is_empty() {
            errors.forbidden(&path, WITH_CONTINUE);
        }
        if !matches!(matching, EXACT | NOT_OLDER) {
            errors.not_supported_in_order(&path, matching, &[EXACT, NOT_OLDER, ""]);
        }
        if matching == EXACT && version == "0" {
            errors.forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if info.param("sendInitialEvents").is_some() {
        errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    refused(&errors)
}

/// Checks the options of a watch.
///
/// # Errors
/// As [`check`].
pub fn check_watch(info: &RequestInfo) -> Result<()> {
    numbers(info)?;
    let mut errors = Errors::new();
    let path = Path::new("resourceVersionMatch");
    let matching = info.param("resourceVersionMatch").unwrap_or_default();
    let sends = info.param("sendInitialEvents").is_some();
    let continues = !info.param("continue").unwrap_or_default().is_empty();
    // Such a watch begins with what is there, as if it had asked for that.
    let from_state = matches!(info.param("resourceVersion"), None | Some("" | "0"));
    if continues && !sends && matching.is_empty() && from_state {
        errors.forbidden(&path, WITH_CONTINUE);
    }
    if sends && matching != NOT_OLDER {
        errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !matching.is_empty() {
        if !sends {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.forbidden(&path, why);
        }
        if matching != NOT_OLDER {
            errors.not_supported(&path, matching, &[NOT_OLDER]);
        }
        if continues {
            errors.forbidden(&path, WITH_CONTINUE);
        }
    }
    refused(&errors)
}

/// How many objects a page has at most.
///
/// # Errors
/// 400 for what is no number.
pub fn limit(info: &RequestInfo) -> Result<usize> {
    let limit = info.param("limit").filter(|text| !text.is_empty()).map(go_int).transpose()?;
    Ok(limit.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
}

const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";
const WITH_CONTINUE: &str = "resourceVersionMatch is forbidden when continue is provided";

fn numbers(info: &RequestInfo) -> Result<()> {
    for name in ["timeoutSeconds", "limit"] {
        info.param(name).filter(|text| !text.is_empty()).map(go_int).transpose()?;
    }
    Ok(())
}

fn refused(errors: &Errors) -> Result<()> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(query: &str) -> RequestInfo {
        RequestInfo::parse(&http::Method::GET, "/api/v1/pods", Some(query))
    }

    #[test]
    fn options_that_contradict_each_other() {
        for (query, told) in [
            ("", ""),
            ("resourceVersion=5&resourceVersionMatch=Exact", ""),
            (
                "resourceVersionMatch=Foo",
                "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, resourceVersionMatch: Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"]",
            ),
            (
                "sendInitialEvents=false",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ),
            (
                "resourceVersion=0&resourceVersionMatch=Exact",
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        ] {
            let found = check(&info(query)).map_or_else(|error| error.message, |()| String::new());
            let prefix = "ListOptions.meta.k8s.io \"\" is invalid: ";
            assert_eq!(found.strip_prefix(prefix).unwrap_or(&found), told, "{query}");
        }
        let error =
            check_watch(&info("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact")).unwrap_err();
        assert!(
            error.message.ends_with("Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"),
            "{error}"
        );
    }

    #[test]
    fn pages() {
        assert_eq!(limit(&info("limit=3")).unwrap(), 3);
        assert_eq!(limit(&info("limit=-1")).unwrap(), usize::MAX);
        assert_eq!(limit(&info("limit=0")).unwrap(), usize::MAX);
        let error = check(&info("limit=x")).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (400, "strconv.ParseInt: parsing \"x\": invalid syntax")
        );
    }
}
