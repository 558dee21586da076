//! Metrics as Prometheus reads them: families of samples, written as text. Pure.

use std::fmt::Write as _;

/// One number, under its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
    /// When it was measured, in milliseconds since 1970; without it, now.
    pub at: Option<i64>,
}

/// All samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    pub samples: Vec<Sample>,
}

impl Family {
    pub fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// With one sample more, if there is a value.
    pub fn add(&mut self, labels: &[(&'static str, &str)], value: Option<f64>, at: Option<i64>) {
        if let Some(value) = value {
            let labels = labels.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
            self.samples.push(Sample { labels, value, at });
        }
    }

    /// With one sample that has no labels.
    pub fn single(mut self, value: Option<f64>, at: Option<i64>) -> Self {
        self.add(&[], value, at);
        self
    }
}

/// The text of all families that have samples.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {} {}", family.name, family.help);
        let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind);
        for sample in &family.samples {
            out.push_str(family.name);
            for (index, (name, value)) in sample.labels.iter().enumerate() {
                let open = if index == 0 { '{' } else { ',' };
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(out, "{open}{name}=\"{value}\"");
            }
            if !sample.labels.is_empty() {
                out.push('}');
            }
            match sample.value.is_infinite() {
                true => out.push_str(" +Inf"),
                false => drop(write!(out, " {}", sample.value)),
            }
            if let Some(at) = sample.at {
                let _ = write!(out, " {at}");
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut family = Family::new("a_total", "counter", "Some.");
        family.add(&[("x", "a\"b"), ("y", "c")], Some(1.5), Some(7));
        family.add(&[("x", "d")], None, None);
        let empty = Family::new("b", "gauge", "None.");
        let single = Family::new("c", "gauge", "One.").single(Some(3.0), None);
        assert_eq!(
            text(&[family, empty, single]),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"a\\\"b\",y=\"c\"} 1.5 7\n\
             # HELP c One.\n# TYPE c gauge\nc 3\n"
        );
    }
}
