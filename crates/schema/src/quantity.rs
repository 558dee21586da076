//! Quantities: exact decimal amounts with a preferred notation.
//!
//! A quantity keeps the text it was parsed from where upstream's parser does, so that what is
//! written equals what upstream writes. Mantissas of more than 38 digits are refused.

mod format;
mod parse;

use std::cmp::Ordering;

/// What upstream's parser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The notation in which a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    #[default]
    DecimalSi,
}

/// `mantissa × 10^scale`.
#[derive(Debug, Clone, Default)]
pub struct Quantity {
    mantissa: i128,
    scale: i32,
    format: Format,
    /// The canonical text where it is the one that was parsed.
    text: Option<Box<str>>,
}

impl Quantity {
    pub fn from_int(value: i64, format: Format) -> Self {
        Self::scaled(i128::from(value), 0, format)
    }

    /// `value / 1000`.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self::scaled(i128::from(value), -3, format)
    }

    fn scaled(mantissa: i128, scale: i32, format: Format) -> Self {
        Self { mantissa, scale, format, text: None }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The value, rounded away from zero to a whole number; saturating.
    pub fn value(&self) -> i64 {
        self.at_scale(0)
    }

    /// The value times 1000, rounded away from zero; saturating.
    pub fn milli(&self) -> i64 {
        self.at_scale(-3)
    }

    /// Whether upstream takes it for a whole number: it looks at thousandths, and does not look beyond 64 bits.
    pub fn is_whole(&self) -> bool {
        let milli = self.rounded(-3).0.and_then(|milli| i64::try_from(milli).ok());
        milli.is_none_or(|milli| milli % 1000 == 0)
    }

    /// `value / 10^scale`, rounded away from zero; saturating.
    pub fn at_scale(&self, scale: i32) -> i64 {
        let (value, _) = self.rounded(scale);
        let limit = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        value.and_then(|v| i64::try_from(v).ok()).unwrap_or(limit)
    }

    /// The mantissa at `scale` (None when it overflows), and whether that is exact.
    fn rounded(&self, scale: i32) -> (Option<i128>, bool) {
        if self.mantissa == 0 {
            return (Some(0), true);
        }
        let by = i64::from(self.scale) - i64::from(scale);
        if by >= 0 {
            let factor = u32::try_from(by).ok().and_then(|by| 10i128.checked_pow(by));
            return (factor.and_then(|f| self.mantissa.checked_mul(f)), true);
        }
        let divisor = u32::try_from(-by).ok().and_then(|by| 10i128.checked_pow(by));
        match divisor {
            None => (Some(self.mantissa.signum()), false),
            Some(divisor) => {
                let exact = self.mantissa % divisor == 0;
                let away = if exact { 0 } else { self.mantissa.signum() };
                (Some(self.mantissa / divisor + away), exact)
            }
        }
    }

    /// As near as a float comes.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.scale)
    }

    /// Both mantissas at the smaller scale; None when that overflows.
    fn aligned(&self, other: &Self) -> Option<(i128, i128, i32)> {
        let scale = match (self.mantissa, other.mantissa) {
            (0, _) => other.scale,
            (_, 0) => self.scale,
            _ => self.scale.min(other.scale),
        };
        Some((self.rounded(scale).0?, other.rounded(scale).0?, scale))
    }

    /// A zero takes the other's notation.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        match self.aligned(other) {
            Some((a, b, scale)) => Self::scaled(a.saturating_add(b), scale, format),
            None => {
                let larger = if self.magnitude() > other.magnitude() { self } else { other };
                Self::scaled(larger.mantissa, larger.scale, format)
            }
        }
    }

    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        self.add(&other.neg())
    }

    #[must_use]
    pub fn neg(&self) -> Self {
        Self::scaled(-self.mantissa, self.scale, self.format)
    }

    /// Digits before the decimal point.
    fn magnitude(&self) -> i64 {
        match self.mantissa.unsigned_abs().checked_ilog10() {
            Some(log) => i64::from(log) + 1 + i64::from(self.scale),
            None => i64::MIN,
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self.mantissa == 0 {
            return signs;
        }
        match self.aligned(other) {
            Some((a, b, _)) => a.cmp(&b),
            None if self.mantissa > 0 => self.magnitude().cmp(&other.magnitude()),
            None => other.magnitude().cmp(&self.magnitude()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|e| e.to_string(), |q| q.to_string())
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        for (from, to) in [
            ("0", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1025Mi", "1025Mi"),
            ("1e3", "1e3"),
            ("1000e3", "1e6"),
            ("10e100", "100e99"),
            ("1.500", "1.500"),
            ("005", "005"),
            ("+5", "+5"),
            ("1000", "1k"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("100Ki", "100Ki"),
            ("512Ki", "512Ki"),
            ("8Gi", "8Gi"),
            ("0.5Ki", "512"),
            ("1000E", "1"),
            ("5Ei", "5Ei"),
            ("10Ei", "9223372036854775807"),
            ("100.2Mi", "105067315200m"),
            ("0.3Mi", "314572800m"),
            ("9223372036854775807", "9223372036854775807"),
            (".", "0"),
        ] {
            assert_eq!(canonical(from), to, "{from}");
        }
        assert_eq!(canonical(""), QuantityError::Format.to_string());
        assert_eq!(canonical("1x"), QuantityError::Format.to_string());
        assert_eq!(canonical("1mm"), QuantityError::Suffix.to_string());
    }

    #[test]
    fn arithmetic() {
        let q = |s: &str| s.parse::<Quantity>().unwrap();
        assert_eq!(q("100m").add(&q("1900m")).to_string(), "2");
        assert_eq!(q("1Gi").sub(&q("512Mi")).to_string(), "512Mi");
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("-1500m").value(), -2);
        assert_eq!(q("2").milli(), 2000);
        assert!(q("1Ki") > q("1k"));
        assert!(q("1e60") > q("1e-9") && q("-1e60") < q("1"));
        assert_eq!(q("1000m"), q("1"));
    }
}
