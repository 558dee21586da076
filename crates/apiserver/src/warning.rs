//! What an author should know of a request, answered beside the result: `Warning: 299 - "text"`, as RFC 7234 has it.
//!
//! Each text is said once, and no more of them than clients read
//! (`apiserver/pkg/endpoints/filters/warning.go`).

use std::collections::HashSet;

use http::header::{HeaderMap, HeaderValue, WARNING};

/// How many letters all warnings of an answer may have together before each is cut.
const MOST: usize = 4 * 1024;
/// How many letters a warning keeps when it is cut.
const MOST_EACH: usize = 256;

/// Adds warnings to the headers of an answer.
pub fn add(headers: &mut HeaderMap, warnings: &[String]) {
    for text in limited(warnings) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        // Letters beyond ASCII go as they are, in UTF-8.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}

/// Each warning once; when they are too long together, each is cut, and the last ones are left out.
fn limited(warnings: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let once: Vec<&String> = warnings.iter().filter(|text| seen.insert(text.as_str())).collect();
    if once.iter().map(|text| text.chars().count()).sum::<usize>() <= MOST {
        return once.into_iter().cloned().collect();
    }
    let mut written = 0;
    let mut cut = Vec::new();
    for text in once {
        if written >= MOST {
            break;
        }
        let text: String = text.chars().take(MOST_EACH).collect();
        written += text.chars().count();
        cut.push(text);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_said_once_and_in_quotes() {
        let mut headers = HeaderMap::new();
        add(&mut headers, &["a \"b\"".to_owned(), "c\\d".to_owned(), "a \"b\"".to_owned()]);
        let told: Vec<_> = headers.get_all(WARNING).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(told, [r#"299 - "a \"b\"""#, r#"299 - "c\\d""#]);
    }

    #[test]
    fn many_long_warnings_are_cut() {
        let warnings: Vec<String> = (0..20).map(|index| format!("{index:0300}")).collect();
        let told = limited(&warnings);
        assert_eq!(told.len(), 16);
        assert!(told.iter().all(|text| text.len() == 256));
        assert_eq!(limited(&warnings[..13]).iter().map(String::len).max(), Some(300));
    }
}
