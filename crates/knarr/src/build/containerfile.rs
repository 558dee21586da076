//! The lines of a Containerfile, before variables have values. Pure.

use super::fault::Fault;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Where it begins, from 1.
    pub line: usize,
    /// In capitals.
    pub keyword: String,
    /// What stands before the arguments as `--name` or `--name=value`.
    pub flags: Vec<(String, String)>,
    /// The arguments, on one line.
    pub rest: String,
}

/// A file that has one stage and only what can be built without running anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containerfile {
    /// `\` or, by a directive, a backtick.
    pub escape: char,
    /// `ARG` only.
    pub before: Vec<Instruction>,
    /// The `FROM`.
    pub from: Instruction,
    /// All others.
    pub steps: Vec<Instruction>,
}

const KEYWORDS: [&str; 15] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a file; what is wrong comes with its line.
pub fn parse(text: &str) -> Result<Containerfile, (usize, Fault)> {
    let escape = directive(text)?;
    let (mut before, mut from, mut steps) = (Vec::new(), None, Vec::new());
    for (line, text) in logical_lines(text, escape) {
        let instruction = instruction(line, &text).map_err(|fault| (line, fault))?;
        if let Some(fault) = refused(&instruction) {
            return Err((line, fault));
        }
        match instruction.keyword.as_str() {
            "FROM" if from.is_none() => from = Some(instruction),
            "FROM" => {
                let instead =
                    "build the first stage as an image of its own, or copy its result from the context";
                return Err((line, Fault::Unsupported { what: "a second FROM".into(), instead }));
            }
            "ARG" if from.is_none() => before.push(instruction),
            keyword if !KEYWORDS.contains(&keyword) => {
                return Err((line, Fault::Syntax(format!("there is no instruction {keyword}"))));
            }
            keyword if from.is_none() => {
                return Err((line, Fault::Syntax(format!("{keyword} stands before FROM"))));
            }
            _ => steps.push(instruction),
        }
    }
    let missing = || {
        (
            text.lines().count().max(1),
            Fault::syntax("there is no FROM: begin with `FROM scratch` or an image"),
        )
    };
    Ok(Containerfile { escape, before, from: from.ok_or_else(missing)?, steps })
}

/// What needs a builder that runs containers, or the network.
fn refused(instruction: &Instruction) -> Option<Fault> {
    let unsupported = |what: &str, instead| Some(Fault::Unsupported { what: what.into(), instead });
    match instruction.keyword.as_str() {
        "RUN" => unsupported(
            "RUN",
            "knarr copies files and runs nothing; run the command before the build and COPY what it makes, or begin from an image that has it",
        ),
        "ONBUILD" => {
            unsupported("ONBUILD", "write the instruction into the files of the images that need it")
        }
        "COPY" | "ADD" => {
            let keyword = &instruction.keyword;
            if instruction.flags.iter().any(|(name, _)| name == "from") {
                return unsupported(
                    &format!("{keyword} --from"),
                    "there is one stage only; put the files into the context",
                );
            }
            let mut words = instruction.rest.split_whitespace();
            if words.clone().any(|word| word.starts_with("<<")) {
                return unsupported("a heredoc", "put the text into a file of the context and COPY it");
            }
            let is_remote = |word: &str| {
                ["http://", "https://", "git@", "git://"]
                    .iter()
                    .any(|scheme| word.trim_matches(['"', '[', ',']).starts_with(scheme))
            };
            words.find(|word| is_remote(word)).and_then(|url| {
                unsupported(
                    &format!("{keyword} of {url}"),
                    "download it into the context first, then COPY it",
                )
            })
        }
        _ => None,
    }
}

/// The escape character: directives stand before everything else.
fn directive(text: &str) -> Result<char, (usize, Fault)> {
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start_matches('\u{feff}').trim_start().strip_prefix('#') else { break };
        let Some((name, value)) = comment.split_once('=') else { break };
        match (name.trim().to_lowercase().as_str(), value.trim()) {
            ("escape", "\\") => return Ok('\\'),
            ("escape", "`") => return Ok('`'),
            ("escape", other) => {
                return Err((index + 1, Fault::Syntax(format!("escape must be \\ or `, not {other}"))));
            }
            ("syntax" | "check", _) => {}
            _ => break,
        }
    }
    Ok('\\')
}

/// Lines with their continuations, each with the number of its first.
fn logical_lines(text: &str, escape: char) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        // Comments and empty lines also stand between a line and its continuation.
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (number, mut whole) = open.take().unwrap_or((index + 1, String::new()));
        let start = if whole.is_empty() { line.trim_start() } else { line };
        match start.trim_end().strip_suffix(escape) {
            Some(part) => {
                whole.push_str(part);
                open = Some((number, whole));
            }
            None => {
                whole.push_str(start);
                found.push((number, whole.trim().to_owned()));
            }
        }
    }
    found.extend(open.map(|(number, whole)| (number, whole.trim().to_owned())));
    found
}

fn instruction(line: usize, text: &str) -> Result<Instruction, Fault> {
    let (keyword, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let keyword = keyword.to_uppercase();
    let mut flags = Vec::new();
    if ["ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"].contains(&keyword.as_str()) {
        while let Some(after) = rest.trim_start().strip_prefix("--") {
            let (flag, others) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags.push((name.to_owned(), value.to_owned()));
            rest = others;
        }
    }
    let rest = rest.trim().to_owned();
    if rest.is_empty() {
        return Err(Fault::Syntax(format!("{keyword} needs an argument")));
    }
    Ok(Instruction { line, keyword, flags, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<(usize, String, String)> {
        let file = parse(text).unwrap();
        file.steps.into_iter().map(|i| (i.line, i.keyword, i.rest)).collect()
    }

    #[test]
    fn lines_go_on_over_comments_and_keep_their_first_number() {
        let text = "# syntax=docker/dockerfile:1\n\nARG A=1\nfrom scratch AS one\nENV A=1 \\\n  # why\n\n  B=2\n  user 5\n";
        assert_eq!(steps(text), [(5, "ENV".into(), "A=1   B=2".into()), (9, "USER".into(), "5".into())]);
        assert_eq!(parse(text).unwrap().before.len(), 1);
    }

    #[test]
    fn a_directive_changes_what_escapes() {
        let text = "# escape=`\nFROM scratch\nENV A=c:\\ `\n  B=2\n";
        assert_eq!(steps(text), [(3, "ENV".into(), "A=c:\\   B=2".into())]);
        assert_eq!(parse("# escape=x\nFROM scratch").unwrap_err().0, 1);
        // After anything else it is a comment.
        assert_eq!(parse("# hello\n# escape=`\nFROM scratch").unwrap().escape, '\\');
    }

    #[test]
    fn flags_stand_before_arguments() {
        let file = parse("FROM scratch\nCOPY --chown=1:2 --link a --b /c/").unwrap();
        let flags = vec![("chown".to_owned(), "1:2".to_owned()), ("link".to_owned(), String::new())];
        assert_eq!((&file.steps[0].flags, file.steps[0].rest.as_str()), (&flags, "a --b /c/"));
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_its_line_and_a_way_out() {
        for (text, line, says) in [
            ("FROM scratch\n\nRUN make", 3, "RUN is not supported: knarr copies files"),
            ("FROM a AS b\nFROM scratch", 2, "a second FROM is not supported: build the first stage"),
            ("FROM scratch\nCOPY --from=b /x /x", 2, "COPY --from is not supported"),
            ("FROM scratch\nADD https://e.org/x /x", 2, "ADD of https://e.org/x is not supported: download"),
            ("FROM scratch\nCOPY <<EOF /x\nhello\nEOF", 2, "a heredoc is not supported"),
            ("FROM scratch\nONBUILD USER 1", 2, "ONBUILD is not supported"),
            ("FROM scratch\nCPOY a b", 2, "there is no instruction CPOY"),
            ("ENV a=b\nFROM scratch", 1, "ENV stands before FROM"),
            ("FROM scratch\nUSER", 2, "USER needs an argument"),
            ("", 1, "there is no FROM"),
        ] {
            let (at, fault) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(fault.to_string().starts_with(says), "{text}: {fault}");
        }
    }
}
