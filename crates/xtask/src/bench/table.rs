//! What was found, as a table or as JSON.

use serde::Serialize;

use super::stats::{median, short};

/// What a figure must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Limit {
    /// It must not be more.
    AtMost(f64),
    /// It must not be less.
    AtLeast(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn show(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {}", short(most)),
            Self::AtLeast(least) => format!("≥ {}", short(least)),
        }
    }
}

/// One measurement of a row: figures by name, the first the most telling.
pub(super) type Sample = Vec<(&'static str, f64)>;

/// The column of what is to be measured.
pub(super) const OURS: &str = "ours";

/// What was measured of one server or node, by the name of its column.
pub(super) type Column = (&'static str, Vec<Sample>);

/// A figure of a row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    name: &'static str,
    ours: Option<f64>,
    others: Vec<Other>,
    budget: Option<Limit>,
    within: Option<bool>,
}

/// The same figure of another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Other {
    name: &'static str,
    value: Option<f64>,
    /// How many times better ours is.
    ratio: Option<f64>,
}

/// A row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    row: &'static str,
    what: &'static str,
    figures: Vec<Figure>,
    problems: Vec<String>,
}

impl Line {
    /// The medians of what was measured.
    pub fn new(
        (row, what): (&'static str, &'static str),
        budgets: &[(&'static str, Limit)],
        columns: &[Column],
        problems: Vec<String>,
    ) -> Self {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in columns.iter().flat_map(|(_, samples)| samples.iter().flatten()) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let figure = |name: &'static str| {
            let own = columns.iter().find(|(column, _)| *column == OURS);
            let ours = own.and_then(|(_, samples)| middle(samples, name));
            let other = |(column, samples): &Column| {
                let value = middle(samples, name);
                let ratio = ours.zip(value).map(|(ours, value)| better(name, ours, value));
                Other { name: column, value, ratio }
            };
            let others = columns.iter().filter(|(column, _)| *column != OURS).map(other).collect();
            let budget = budgets.iter().find(|(of, _)| *of == name).map(|(_, limit)| *limit);
            let within = budget.zip(ours).map(|(budget, ours)| budget.holds(ours));
            Figure { name, ours, others, budget, within }
        };
        Self { row, what, figures: names.into_iter().map(figure).collect(), problems }
    }

    /// Whether something went wrong.
    pub fn failed(&self) -> bool {
        !self.problems.is_empty()
    }
}

/// How many times better ours is: of what is counted by the second, more is.
fn better(name: &str, ours: f64, other: f64) -> f64 {
    if name.ends_with("/s") { ours / other } else { other / ours }
}

fn middle(samples: &[Sample], name: &str) -> Option<f64> {
    let of_name = |sample: &Sample| sample.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
    median(&mut samples.iter().filter_map(of_name).collect::<Vec<f64>>())
}

/// The other columns, in the order in which they first come.
fn others(lines: &[Line]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for other in lines.iter().flat_map(|line| line.figures.iter().flat_map(|figure| &figure.others)) {
        if !names.contains(&other.name) {
            names.push(other.name);
        }
    }
    names
}

/// The table for a reader; a `!` stands behind what misses its budget.
pub(super) fn text(lines: &[Line]) -> String {
    let others = others(lines);
    let mut head = vec!["row".to_owned(), "figure".to_owned(), OURS.to_owned()];
    head.extend(others.iter().flat_map(|name| [(*name).to_owned(), "ratio".to_owned()]));
    head.extend(["budget".to_owned(), String::new()]);
    let mut cells = vec![head];
    let shown = |value: Option<f64>| value.map(short).unwrap_or_default();
    for line in lines {
        for (at, figure) in line.figures.iter().enumerate() {
            let mut row = vec![
                if at == 0 { line.row.to_owned() } else { String::new() },
                figure.name.to_owned(),
                shown(figure.ours),
            ];
            for name in &others {
                let other = figure.others.iter().find(|other| other.name == *name);
                row.push(shown(other.and_then(|other| other.value)));
                let ratio = other.and_then(|other| other.ratio);
                row.push(ratio.map(|ratio| format!("{} ×", short(ratio))).unwrap_or_default());
            }
            row.push(figure.budget.map(Limit::show).unwrap_or_default());
            row.push(if figure.within == Some(false) { "!".to_owned() } else { String::new() });
            cells.push(row);
        }
    }
    let mut out = aligned(&cells);
    for problem in lines.iter().flat_map(|line| line.problems.iter().map(move |text| (line.row, text))) {
        out += &format!("{}: {}\n", problem.0, problem.1);
    }
    out
}

/// Rows of cells, each column as wide as its widest; names stand left, numbers right.
fn aligned(cells: &[Vec<String>]) -> String {
    let columns = cells.first().map_or(0, Vec::len);
    let width = |at: usize| cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or_default()).collect();
    let mut out = String::new();
    for row in cells {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            out += &if at < 2 || at + 1 == columns {
                format!("{cell}{gap}  ")
            } else {
                format!("{gap}{cell}  ")
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(budget: Limit) -> Line {
        let ours = vec![vec![("cpu", 1.0), ("ops/s", 2000.0)], vec![("cpu", 3.0), ("ops/s", 4000.0)]];
        let other = vec![vec![("cpu", 20.0), ("ops/s", 1500.0)]];
        Line::new(("create", "creates"), &[("cpu", budget)], &[(OURS, ours), ("other", other)], Vec::new())
    }

    #[test]
    fn a_line_has_medians_a_ratio_and_a_verdict() {
        let text = text(&[line(Limit::AtMost(1.5))]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "row     figure   ours  other   ratio  budget");
        assert_eq!(rows[1], "create  cpu      2.00   20.0  10.0 ×  ≤ 1.50  !");
        assert_eq!(rows[2], "        ops/s   3,000  1,500  2.00 ×");
    }

    #[test]
    fn each_other_has_a_column_and_a_ratio_of_its_own() {
        let columns = [(OURS, vec![vec![("cpu", 2.0)]]), ("b", vec![vec![("cpu", 4.0)]]), ("c", Vec::new())];
        let text = text(&[Line::new(("r", "what"), &[], &columns, Vec::new())]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "row  figure  ours     b   ratio  c  ratio  budget");
        assert_eq!(rows[1], "r    cpu     2.00  4.00  2.00 ×");
    }

    #[test]
    fn a_budget_holds_up_to_its_limit() {
        assert_eq!(line(Limit::AtMost(2.0)).figures[0].within, Some(true));
        assert_eq!(line(Limit::AtLeast(2.0)).figures[0].within, Some(true));
        assert_eq!(line(Limit::AtLeast(2.1)).figures[0].within, Some(false));
    }

    #[test]
    fn problems_stand_below() {
        let line = Line::new(("create", "creates"), &[], &[], vec!["no server".to_owned()]);
        assert!(line.failed());
        assert!(text(&[line]).ends_with("create: no server\n"));
    }
}
