//! Environment files (KEP-3721): `NAME='value'` in a strict subset of the shell's words. Pure.

/// What is wrong with a file; lines count from 1.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid environment variable format at line {line}: {why}")]
pub struct EnvFileError {
    line: usize,
    why: &'static str,
}

/// The value of a key; empty when there is none. Nothing after it is looked at, as upstream does it.
///
/// # Errors
/// The first line before it that is none.
pub fn lookup(text: &str, key: &str) -> Result<String, EnvFileError> {
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let wrong = |why| EnvFileError { line: index + 1, why };
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("missing '='"))?;
        if name.is_empty() {
            return Err(wrong("empty variable name"));
        }
        if name.ends_with([' ', '\t']) {
            return Err(wrong("whitespace before '=' is not allowed"));
        }
        if value.starts_with([' ', '\t']) {
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let quoted = value.strip_prefix('\'');
        let mut rest = quoted.ok_or_else(|| wrong("value must be enclosed in single quotes"))?;
        let mut value = String::new();
        let after = loop {
            if let Some((last, after)) = rest.split_once('\'') {
                value.push_str(last);
                break after;
            }
            value.push_str(rest);
            value.push('\n');
            (_, rest) = lines.next().ok_or_else(|| wrong("unclosed single quote"))?;
        };
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with('#') {
            return Err(wrong("unexpected content after closing quote"));
        }
        if name == key {
            return Ok(value);
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_single_quotes_and_may_have_many_lines() {
        let text = "# c\n\n  A='1' # one\nB='x\n y'\nC= 'lost'\nD='$HOME'\n";
        for (key, value) in [("A", "1"), ("B", "x\n y"), ("C", ""), ("D", "$HOME"), ("E", "")] {
            assert_eq!(lookup(text, key).as_deref(), Ok(value), "{key}");
        }
    }

    #[test]
    fn what_is_no_line_of_it_is_named() {
        for (text, words) in [
            ("A", "line 1: missing '='"),
            ("\nA =''", "line 2: whitespace before '='"),
            ("A=b", "line 1: value must be enclosed"),
            ("A='b", "line 1: unclosed"),
            ("A='b' c", "line 1: unexpected content"),
        ] {
            let error = lookup(text, "Z").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
