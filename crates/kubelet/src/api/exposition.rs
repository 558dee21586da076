//! Metrics as Prometheus reads them: families of samples, written as text. Pure.

use std::fmt::Write as _;

use crate::counts::Histogram;

/// One number, under its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Behind the family's name: a histogram's `_bucket`, `_sum` or `_count`.
    pub suffix: &'static str,
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
    /// `counter`, `gauge` or `histogram`.
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
            self.samples.push(Sample { suffix: "", labels, value, at });
        }
    }

    /// With a histogram's samples, each bucket with those before it.
    pub fn histogram(&mut self, labels: &[(&'static str, &str)], histogram: &Histogram) {
        let own: Vec<(&'static str, String)> =
            labels.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let mut push = |suffix, bound: Option<String>, value| {
            let labels = own.iter().cloned().chain(bound.map(|bound| ("le", bound))).collect();
            self.samples.push(Sample { suffix, labels, value, at: None });
        };
        let mut count = 0;
        for (bound, more) in &histogram.buckets {
            count += more;
            push("_bucket", Some(bound.to_string()), count as f64);
        }
        count += histogram.beyond;
        push("_bucket", Some("+Inf".to_owned()), count as f64);
        push("_sum", None, histogram.sum);
        push("_count", None, count as f64);
    }

    /// With one sample that has no labels.
    pub fn single(mut self, value: Option<f64>, at: Option<i64>) -> Self {
        self.add(&[], value, at);
        self
    }
}

/// A count as metrics have it.
pub fn float(number: u64) -> f64 {
    number as f64
}

/// Nanoseconds as seconds.
pub fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

/// A label's value between quotation marks.
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
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
            out.push_str(sample.suffix);
            for (index, (name, value)) in sample.labels.iter().enumerate() {
                let open = if index == 0 { '{' } else { ',' };
                let _ = write!(out, "{open}{name}=\"{}\"", escaped(value));
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
        let mut taken = Family::new("d", "histogram", "Times.");
        let buckets = vec![(0.5, 1), (1.0, 2)];
        taken.histogram(&[("x", "y")], &Histogram { buckets, beyond: 1, sum: 7.5 });
        let empty = Family::new("b", "gauge", "None.");
        let single = Family::new("c", "gauge", "One.").single(Some(3.0), None);
        assert_eq!(
            text(&[family, empty, single, taken]),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"a\\\"b\",y=\"c\"} 1.5 7\n\
             # HELP c One.\n# TYPE c gauge\nc 3\n\
             # HELP d Times.\n# TYPE d histogram\nd_bucket{x=\"y\",le=\"0.5\"} 1\nd_bucket{x=\"y\",le=\"1\"} 3\n\
             d_bucket{x=\"y\",le=\"+Inf\"} 4\nd_sum{x=\"y\"} 7.5\nd_count{x=\"y\"} 4\n"
        );
    }
}
