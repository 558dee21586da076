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

/// A figure of a row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    name: &'static str,
    ours: Option<f64>,
    other: Option<f64>,
    /// How many times better ours is.
    ratio: Option<f64>,
    budget: Option<Limit>,
    within: Option<bool>,
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
        [ours, other]: [&[Sample]; 2],
        problems: Vec<String>,
    ) -> Self {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in ours.iter().chain(other).flatten() {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let figure = |name: &'static str| {
            let (ours, other) = (middle(ours, name), middle(other, name));
            let ratio = ours.zip(other).map(|(ours, other)| better(name, ours, other));
            let budget = budgets.iter().find(|(of, _)| *of == name).map(|(_, limit)| *limit);
            let within = budget.zip(ours).map(|(budget, ours)| budget.holds(ours));
            Figure { name, ours, other, ratio, budget, within }
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

/// The table for a reader; a `!` stands behind what misses its budget.
pub(super) fn text(lines: &[Line]) -> String {
    let mut cells = vec![["row", "figure", "ours", "other", "ratio", "budget", ""].map(str::to_owned)];
    for line in lines {
        let shown = |value: Option<f64>| value.map(short).unwrap_or_default();
        for (at, figure) in line.figures.iter().enumerate() {
            cells.push([
                if at == 0 { line.row.to_owned() } else { String::new() },
                figure.name.to_owned(),
                shown(figure.ours),
                shown(figure.other),
                figure.ratio.map(|ratio| format!("{} ×", short(ratio))).unwrap_or_default(),
                figure.budget.map(Limit::show).unwrap_or_default(),
                if figure.within == Some(false) { "!".to_owned() } else { String::new() },
            ]);
        }
    }
    let mut widths = [0; 7];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &cells {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Names stand left, numbers right.
            out += &if at < 2 || at == 6 { format!("{cell}{gap}  ") } else { format!("{gap}{cell}  ") };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    for problem in lines.iter().flat_map(|line| line.problems.iter().map(move |text| (line.row, text))) {
        out += &format!("{}: {}\n", problem.0, problem.1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(budget: Limit) -> Line {
        let ours = [vec![("cpu", 1.0), ("ops/s", 2000.0)], vec![("cpu", 3.0), ("ops/s", 4000.0)]];
        let other = [vec![("cpu", 20.0), ("ops/s", 1500.0)]];
        Line::new(("create", "creates"), &[("cpu", budget)], [&ours, &other], Vec::new())
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
    fn a_budget_holds_up_to_its_limit() {
        assert_eq!(line(Limit::AtMost(2.0)).figures[0].within, Some(true));
        assert_eq!(line(Limit::AtLeast(2.0)).figures[0].within, Some(true));
        assert_eq!(line(Limit::AtLeast(2.1)).figures[0].within, Some(false));
    }

    #[test]
    fn problems_stand_below() {
        let line = Line::new(("create", "creates"), &[], [&[], &[]], vec!["no server".to_owned()]);
        assert!(line.failed());
        assert!(text(&[line]).ends_with("create: no server\n"));
    }
}
