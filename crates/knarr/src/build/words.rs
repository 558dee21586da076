//! Words of an instruction: quotes, escapes and variables. Pure.

use std::iter::Peekable;
use std::str::Chars;

use super::fault::Fault;

/// Gives a variable's value; `None` where it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Splits at spaces that are not quoted. Quotes and variables stay as they are.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A JSON array of strings, if that is what stands there.
pub fn array(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// Takes quotes and escapes away and puts variables in.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_>) -> Result<String, Fault> {
    let mut expansion = Expansion { chars: word.chars().peekable(), escape, lookup, word };
    expansion.until(None)
}

struct Expansion<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    lookup: Lookup<'a>,
    word: &'a str,
}

impl Expansion<'_> {
    fn fault(&self, what: &str) -> Fault {
        Fault::Syntax(format!("{what} in {}", self.word))
    }

    /// Reads on to a character outside of quotes, or to the end.
    fn until(&mut self, end: Option<char>) -> Result<String, Fault> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                _ if Some(c) == end => return Ok(out),
                '\'' => loop {
                    match self.chars.next() {
                        Some('\'') => break,
                        Some(c) => out.push(c),
                        None => return Err(self.fault("a quote is not closed")),
                    }
                },
                '"' => self.quoted(&mut out)?,
                '$' => self.variable(&mut out)?,
                _ if c == self.escape => out.extend(self.chars.next()),
                _ => out.push(c),
            }
        }
        match end {
            None => Ok(out),
            Some(_) => Err(self.fault("a ${ is not closed")),
        }
    }

    fn quoted(&mut self, out: &mut String) -> Result<(), Fault> {
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(out)?,
                Some(c) if c == self.escape => match self.chars.next() {
                    Some(next) if next == '"' || next == '$' || next == c => out.push(next),
                    next => out.extend(std::iter::once(c).chain(next)),
                },
                Some(c) => out.push(c),
                None => return Err(self.fault("a quote is not closed")),
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    /// After the `$`.
    fn variable(&mut self, out: &mut String) -> Result<(), Fault> {
        if self.chars.next_if_eq(&'{').is_none() {
            match self.name() {
                name if name.is_empty() => out.push('$'),
                name => out.extend((self.lookup)(&name)),
            }
            return Ok(());
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.fault("a ${} without a name"));
        }
        let mut value = (self.lookup)(&name);
        let mut next = self.chars.next();
        if next == Some(':') {
            value = value.filter(|value| !value.is_empty());
            next = self.chars.next();
        } else if next == Some('}') {
            out.extend(value);
            return Ok(());
        }
        let Some(operator @ ('-' | '+' | '?')) = next else {
            return Err(self.fault("${X}, ${X:-default}, ${X:+alternative} or ${X:?message} was expected"));
        };
        let word = self.until(Some('}'))?;
        match (operator, value) {
            ('-', None) => out.push_str(&word),
            ('-' | '?', Some(value)) => out.push_str(&value),
            ('+', Some(_)) => out.push_str(&word),
            ('?', None) => return Err(Fault::Syntax(format!("{name} is not set: {word}"))),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "A" => Some("x y".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_quotes_and_escapes() {
        for (word, expected) in [
            ("$A/${A}.b", "x y/x y.b"),
            ("${N:-d}${EMPTY:-e}${EMPTY-f}", "de"),
            ("${A:+yes}${N:+no}${EMPTY:+no}${EMPTY+set}", "yesset"),
            ("${N:-${A}/'}'}", "x y/}"),
            ("\\$A '$A' \"$A\" \"\\$A\\n\"", "$A $A x y $A\\n"),
            ("a\\ b", "a b"),
            ("5$", "5$"),
        ] {
            assert_eq!(expand(word, '\\', &value).unwrap(), expected, "{word}");
        }
        assert_eq!(expand("c:\\a`$A", '`', &value).unwrap(), "c:\\a$A");
    }

    #[test]
    fn what_is_not_closed_or_known_is_said() {
        for (word, says) in [
            ("'a", "a quote is not closed in 'a"),
            ("\"a", "a quote is not closed"),
            ("${A", "${X}, ${X:-default}"),
            ("${A:-b", "a ${ is not closed"),
            ("${A%b}", "${X}, ${X:-default}"),
            ("${}", "a ${} without a name"),
            ("${N:?say it}", "N is not set: say it"),
        ] {
            let fault = expand(word, '\\', &value).unwrap_err().to_string();
            assert!(fault.starts_with(says), "{word}: {fault}");
        }
    }

    #[test]
    fn words_end_at_spaces_outside_of_quotes() {
        assert_eq!(split(" a=\"b c\"  d='e f'g h\\ i ", '\\'), ["a=\"b c\"", "d='e f'g", "h\\ i"]);
        assert_eq!(array(r#"["a b", "c"]"#).unwrap(), ["a b", "c"]);
        assert_eq!(array("[ -f x ] && y"), None);
    }
}
