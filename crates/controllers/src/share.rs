//! Numbers that may be given as a share of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A share that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It does not end with `%`.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NoPercentage,
    /// What stands before the `%` is no number.
    #[error("invalid value for IntOrString: invalid value {0:?}")]
    NoNumber(String),
}

/// A number, or a share of `whole`, rounded up or down (`intstr.GetScaledValueFromIntOrPercent`).
///
/// # Errors
/// A text that is no percentage.
pub fn share(value: &IntOrString, whole: i32, up: bool) -> Result<i32, ShareError> {
    let text = match value {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let percent = text.strip_suffix('%').ok_or(ShareError::NoPercentage)?;
    let percent: i32 = percent.parse().map_err(|_| ShareError::NoNumber(text.clone()))?;
    let product = i64::from(percent) * i64::from(whole);
    let rounded = product / 100 + i64::from(up && product % 100 > 0);
    Ok(i32::try_from(rounded).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_as_asked() {
        let of = |text: &str, whole, up| share(&IntOrString::String(text.to_owned()), whole, up);
        assert_eq!(share(&IntOrString::Int(7), 1, true), Ok(7));
        assert_eq!((of("30%", 5, true), of("30%", 5, false)), (Ok(2), Ok(1)));
        assert_eq!((of("20%", 5, true), of("100%", 5, false)), (Ok(1), Ok(5)));
        assert_eq!(of("5", 5, true), Err(ShareError::NoPercentage));
        assert_eq!(of("x%", 5, true), Err(ShareError::NoNumber("x%".to_owned())));
    }
}
