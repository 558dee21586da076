//! How often something was how large.

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, and how often it was no larger but larger than the bound before.
    pub buckets: Vec<(f64, u64)>,
    /// How often it was larger than all bounds.
    pub beyond: u64,
    /// All together.
    pub sum: f64,
}

impl Histogram {
    /// Nothing yet.
    pub fn new(bounds: &[f64]) -> Self {
        Self { buckets: bounds.iter().map(|bound| (*bound, 0)).collect(), beyond: 0, sum: 0.0 }
    }

    /// Once more.
    pub fn observe(&mut self, value: f64) {
        self.sum += value;
        match self.buckets.iter_mut().find(|(bound, _)| value <= *bound) {
            Some((_, count)) => *count += 1,
            None => self.beyond += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_first_bound_that_is_not_below_them() {
        let mut histogram = Histogram::new(&[0.5, 1.0, 2.0, 3.0, 3600.0]);
        for value in [1.0, 1.0, 3.0, 4000.0] {
            histogram.observe(value);
        }
        let filled: Vec<_> = histogram.buckets.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [&(1.0, 2), &(3.0, 1)]);
        assert_eq!((histogram.beyond, histogram.sum), (1, 4005.0));
    }
}
