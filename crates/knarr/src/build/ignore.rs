//! Patterns: what an ignore file leaves out, and which names a source means. Pure.

/// The rules of an ignore file; the last that matches decides.
#[derive(Debug, Default)]
pub struct Ignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    pattern: Vec<String>,
    /// Begins with `!`.
    again: bool,
}

impl Ignore {
    /// Reads the rules.
    pub fn parse(text: &str) -> Self {
        let rules = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#'));
        let rules = rules.filter_map(|line| {
            let line = line.trim();
            let (line, again) = line.strip_prefix('!').map_or((line, false), |rest| (rest.trim(), true));
            let pattern: Vec<String> =
                line.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
            (!pattern.is_empty()).then_some(Rule { pattern, again })
        });
        Self(rules.collect())
    }

    /// Whether a path is left out, by itself or with a folder above.
    pub fn excludes(&self, path: &[&str]) -> bool {
        self.0.iter().fold(false, |excluded, rule| {
            let hit = (1..=path.len())
                .any(|end| path.get(..end).is_some_and(|part| matches_path(&rule.pattern, part)));
            if hit { !rule.again } else { excluded }
        })
    }

    /// Whether something below an excluded folder can still be wanted.
    pub fn has_exceptions(&self) -> bool {
        self.0.iter().any(|rule| rule.again)
    }
}

/// `**` stands for any number of folders; at the end, for everything inside.
fn matches_path(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, [])), Some(_)) if first == "**" => true,
        (Some((first, rest @ [_, ..])), _) if first == "**" => {
            matches_path(rest, path)
                || path.split_first().is_some_and(|(_, below)| matches_path(pattern, below))
        }
        (Some((first, rest)), Some((name, below))) => matches(first, name) && matches_path(rest, below),
        _ => false,
    }
}

/// Whether a source has to be looked for.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '[', '\\'])
}

/// One name against one pattern: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what stands for itself.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and how much it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match (name.get(n), one(&pattern, p, name.get(n).copied())) {
            (None, _) if p == pattern.len() => return true,
            (Some(_), Some(next)) => (p, n) = (next, n + 1),
            _ => match star {
                Some((after, taken)) if taken < name.len() => {
                    (p, n) = (after, taken + 1);
                    star = Some((after, taken + 1));
                }
                _ => return false,
            },
        }
    }
}

/// Where the pattern goes on if it takes this character.
fn one(pattern: &[char], at: usize, c: Option<char>) -> Option<usize> {
    let c = c?;
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => {
            let (mut i, negated) =
                if pattern.get(at + 1) == Some(&'^') { (at + 2, true) } else { (at + 1, false) };
            let (mut hit, first) = (false, i);
            while i == first || *pattern.get(i)? != ']' {
                if *pattern.get(i)? == '\\' {
                    i += 1;
                }
                let low = *pattern.get(i)?;
                let high = if pattern.get(i + 1) == Some(&'-') && *pattern.get(i + 2)? != ']' {
                    i += 2;
                    *pattern.get(i)?
                } else {
                    low
                };
                hit |= (low..=high).contains(&c);
                i += 1;
            }
            (hit != negated).then_some(i + 1)
        }
        same => (same == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            ("*.rs", "a.rs", true),
            ("*.rs", "a.rsx", false),
            ("a*b*c", "aXbYbc", true),
            ("?", "é", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", false),
            ("*", "", true),
            ("a*", "", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_last_rule_decides() {
        let ignore = Ignore::parse("# all\n*.md\n!README.md\n/target/\n**/tmp\nkeep/**\n!keep/me\n\n");
        for (path, expected) in [
            ("a.md", true),
            ("README.md", false),
            ("docs/a.md", false),
            ("target/x/y", true),
            ("tmp", true),
            ("a/b/tmp/c", true),
            ("keep", false),
            ("keep/x", true),
            ("keep/me", false),
            ("keep/me/too", false),
        ] {
            let parts: Vec<&str> = path.split('/').collect();
            assert_eq!(ignore.excludes(&parts), expected, "{path}");
        }
        assert!(ignore.has_exceptions() && !Ignore::parse("a\n").has_exceptions());
    }
}
