//! Writing quantities in their canonical form.

use std::fmt::{Display, Formatter, Result};

use super::{Format, Quantity};

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Display for Quantity {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi
            && let Some((number, suffix)) = self.binary()
        {
            return write!(f, "{number}{suffix}");
        }
        let (number, exponent) = self.thousands();
        f.write_str(&number)?;
        match self.format {
            Format::DecimalExponent if exponent != 0 => write!(f, "e{exponent}"),
            Format::DecimalExponent => Ok(()),
            Format::BinarySi | Format::DecimalSi => f.write_str(decimal_suffix(exponent)),
        }
    }
}

/// Upstream writes no suffix where it has none for the exponent.
fn decimal_suffix(exponent: i32) -> &'static str {
    match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
}

impl Quantity {
    /// None when the value is small or not whole, and so is written in decimal.
    fn binary(&self) -> Option<(i128, &'static str)> {
        let (value, exact) = self.rounded(0);
        let mut value = value.filter(|_| exact)?;
        if value.unsigned_abs() < 1024 {
            return None;
        }
        let mut exponent = 0;
        while value % 1024 == 0 {
            value /= 1024;
            exponent += 1;
        }
        Some((value, BINARY.get(exponent).copied().unwrap_or("")))
    }

    /// Digits and an exponent that is a multiple of three.
    fn thousands(&self) -> (String, i32) {
        let mut mantissa = self.mantissa;
        let mut exponent = self.scale;
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        let zeros = exponent.rem_euclid(3);
        let mut text = mantissa.to_string();
        for _ in 0..zeros {
            text.push('0');
        }
        (text, exponent - zeros)
    }
}
