//! How the groups are shown, and how their tests ended.

use std::fmt::Write;

use super::groups::Group;
use super::limits;
use super::report::{End, Test, first_line};

/// A group that has run.
#[derive(Debug)]
pub(super) struct Line {
    pub group: &'static str,
    pub tests: Vec<Test>,
}

impl Line {
    fn count(&self, is: fn(&End) -> bool) -> usize {
        self.tests.iter().filter(|test| is(&test.end)).count()
    }

    /// Tests that failed, and no limit of the machine says why.
    pub(super) fn unexplained(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(|test| match &test.end {
            End::Failed(why) => limits::explains(&test.name, why).is_none(),
            _ => false,
        })
    }
}

/// The groups there are, each with what it leaves out.
pub(super) fn list(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let _ = writeln!(text, "{}: {}", group.name, group.focus.join(" | "));
        for (skipped, why) in group.skip {
            let _ = writeln!(text, "  without {skipped}: {why}");
        }
    }
    text
}

/// The counts, and below them what failed and what left itself out, with why.
pub(super) fn text(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.group.len()).max().unwrap_or(0).max("group".len());
    let mut text = format!("{:width$}    run  passed  failed  skipped\n", "group");
    for line in lines {
        let (passed, failed) = (line.count(|end| *end == End::Passed), line.count(is_failed));
        let skipped = line.tests.len() - passed - failed;
        let _ = writeln!(
            text,
            "{:width$}  {:5}  {passed:6}  {failed:6}  {skipped:7}",
            line.group,
            line.tests.len()
        );
    }
    for test in lines.iter().flat_map(|line| &line.tests) {
        match &test.end {
            End::Passed => {}
            End::Skipped(why) => {
                let _ = writeln!(text, "skipped {}: {why}", test.name);
            }
            End::Failed(why) => {
                let shown = first_line(why);
                let _ = match limits::explains(&test.name, why) {
                    Some(limit) => writeln!(text, "failed {}: {limit}: {shown}", test.name),
                    None => writeln!(text, "FAILED {}: {shown}", test.name),
                };
            }
        }
    }
    text
}

fn is_failed(end: &End) -> bool {
    matches!(end, End::Failed(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, end: End) -> Test {
        Test { name: name.to_owned(), end }
    }

    #[test]
    fn counts_stand_above_what_did_not_pass() {
        let tests = vec![
            test("a", End::Passed),
            test("b", End::Skipped("no GPU".to_owned())),
            test("c", End::Failed("timed out\nat last".to_owned())),
            test("PrivilegedPod", End::Failed("type dummy".to_owned())),
        ];
        let line = Line { group: "node", tests };
        assert_eq!(line.unexplained().map(|test| test.name.as_str()).collect::<Vec<_>>(), ["c"]);
        assert_eq!(
            text(&[line]),
            "group    run  passed  failed  skipped\n\
             node       4       1       2        1\n\
             skipped b: no GPU\n\
             FAILED c: timed out\n\
             failed PrivilegedPod: this kernel has no dummy links: type dummy\n"
        );
    }
}
