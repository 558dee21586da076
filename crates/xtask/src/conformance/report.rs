//! What the test program reports: one file of JSON, with every test it knows.

use anyhow::{Context, Result};
use serde::Deserialize;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    /// Chosen, but it left itself out once it saw the cluster. Why, in one line.
    Skipped(String),
    /// Why, in full: what a machine lacks may be told last.
    Failed(String),
}

/// A test that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    pub name: String,
    pub end: End,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Spec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    failure: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

impl Spec {
    fn name(self) -> String {
        let mut parts = self.container_hierarchy_texts.unwrap_or_default();
        parts.push(self.leaf_node_text);
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }

    /// Nothing when the test was not chosen, or is no test and went well.
    fn test(self) -> Option<Test> {
        let message = self.failure.as_ref().map(|failure| failure.message.trim().to_owned());
        let is_test = self.leaf_node_type == "It";
        let end = match (self.state.as_str(), message) {
            ("passed", _) if is_test => End::Passed,
            ("passed", _) | ("skipped", None) | ("pending", _) => return None,
            ("skipped", Some(_)) if !is_test => return None,
            ("skipped", Some(why)) => End::Skipped(first_line(&why)),
            (state, message) => End::Failed(message.unwrap_or_else(|| state.to_owned())),
        };
        let what = if is_test { String::new() } else { format!("[{}] ", self.leaf_node_type) };
        Some(Test { name: what + &self.name(), end })
    }
}

/// The tests of a report that were chosen.
///
/// # Errors
/// When it is no report.
pub(super) fn tests(json: &[u8]) -> Result<Vec<Test>> {
    let suites: Vec<Suite> = serde_json::from_slice(json).context("a report of another form")?;
    Ok(suites.into_iter().flat_map(|suite| suite.spec_reports).filter_map(Spec::test).collect())
}

/// The first line that says something.
pub(super) fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, leaf: &str, state: &str, message: Option<&str>) -> String {
        let failure = message.map_or(String::new(), |text| format!(r#","Failure":{{"Message":"{text}"}}"#));
        format!(
            r#"{{"ContainerHierarchyTexts":["[sig-node] Pods",""],"LeafNodeType":"{kind}","LeafNodeText":"{leaf}","State":"{state}"{failure}}}"#
        )
    }

    #[test]
    fn chosen_tests_are_told_apart_by_their_end() {
        let specs = [
            spec("It", "go", "passed", None),
            spec("It", "not chosen", "skipped", None),
            spec("It", "cannot", "skipped", Some("needs a GPU")),
            spec("It", "breaks", "failed", Some("\\n  pod failed\\nmore")),
            spec("It", "hangs", "timedout", None),
            spec("SynchronizedBeforeSuite", "", "passed", None),
        ];
        let json = format!(r#"[{{"SpecReports":[{}]}}]"#, specs.join(","));
        let test = |name: &str, end| Test { name: format!("[sig-node] Pods {name}"), end };
        let expected = [
            test("go", End::Passed),
            test("cannot", End::Skipped("needs a GPU".into())),
            test("breaks", End::Failed("pod failed\nmore".into())),
            test("hangs", End::Failed("timedout".into())),
        ];
        assert_eq!(tests(json.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_goes_wrong_before_all_tests_is_a_failure() {
        let json = r#"[{"SpecReports":[{"ContainerHierarchyTexts":null,"LeafNodeType":"BeforeSuite","LeafNodeText":"","State":"failed","Failure":{"Message":"no nodes"}}]}]"#;
        let expected = Test { name: "[BeforeSuite] ".into(), end: End::Failed("no nodes".into()) };
        assert_eq!(tests(json.as_bytes()).unwrap(), [expected]);
    }

    #[test]
    fn a_torn_report_is_an_error() {
        assert!(tests(b"[{").is_err());
        assert!(tests(b"{}").is_err());
    }
}
