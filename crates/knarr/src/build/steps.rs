//! One instruction after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::{self, Config};
use super::containerfile::{Containerfile, Instruction};
use super::context::Context;
use super::fault::Fault;
use super::layer::{Attributes, Layer, Packed};
use super::tree::Tree;
use super::{Request, values, words};

type Arguments = BTreeMap<String, String>;

/// `NAME` or `NAME=default`, several on a line.
fn declared(
    step: &Instruction,
    escape: char,
    given: &Arguments,
    lookup: impl Fn(&Arguments, &str) -> Option<String>,
    outer: &Arguments,
) -> Result<Arguments, Fault> {
    let mut found = Arguments::new();
    for word in words::split(&step.rest, escape) {
        let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(n, d)| (n, Some(d)));
        let default =
            default.map(|text| words::expand(text, escape, &|name| lookup(&found, name))).transpose()?;
        let value = given.get(name).cloned().or(default).or_else(|| outer.get(name).cloned());
        if let Some(value) = value {
            found.insert(name.to_owned(), value);
        }
    }
    Ok(found)
}

/// What `ARG` knows without being told.
fn platform() -> Arguments {
    let architecture = config::architecture();
    let mut known = Arguments::new();
    for kind in ["TARGET", "BUILD"] {
        known.insert(format!("{kind}OS"), "linux".into());
        known.insert(format!("{kind}ARCH"), architecture.into());
        known.insert(format!("{kind}PLATFORM"), format!("linux/{architecture}"));
    }
    known
}

/// The arguments that stand before `FROM`.
fn global(file: &Containerfile, given: &Arguments) -> Result<Arguments, (usize, Fault)> {
    let mut known = platform();
    for step in &file.before {
        let lookup = |new: &Arguments, name: &str| new.get(name).or_else(|| known.get(name)).cloned();
        let new = declared(step, file.escape, given, lookup, &known).map_err(|fault| (step.line, fault))?;
        known.extend(new);
    }
    Ok(known)
}

/// The image that `FROM` names; `None` for scratch.
pub fn base(file: &Containerfile, given: &Arguments) -> Result<Option<String>, (usize, Fault)> {
    let known = global(file, given)?;
    let from = &file.from;
    let expand = |word: &str| {
        words::expand(word, file.escape, &|name| known.get(name).cloned()).map_err(|fault| (from.line, fault))
    };
    for (name, value) in &from.flags {
        let own = format!("linux/{}", config::architecture());
        if name != "platform" || expand(value)? != own {
            let what = format!("FROM --{name}={value}");
            let instead = "images are built for the platform of this machine; leave it out";
            return Err((from.line, Fault::Unsupported { what, instead }));
        }
    }
    let words = words::split(&from.rest, file.escape);
    let image = match words.as_slice() {
        [image] => expand(image)?,
        [image, middle, _] if middle.eq_ignore_ascii_case("as") => expand(image)?,
        _ => return Err((from.line, Fault::syntax("FROM takes one image"))),
    };
    match image.as_str() {
        "" => Err((
            from.line,
            Fault::Syntax(format!("FROM {} names no image: its ARG has no value", from.rest)),
        )),
        "scratch" => Ok(None),
        _ => Ok(Some(image)),
    }
}

/// What there is so far.
pub struct Stage<'a> {
    escape: char,
    request: &'a Request,
    context: &'a Context,
    config: Config,
    tree: Tree,
    global: Arguments,
    arguments: Arguments,
    /// `CMD` was set here, not by the base.
    own_command: bool,
    layers: Vec<Packed>,
}

impl<'a> Stage<'a> {
    /// Right after `FROM`.
    pub fn new(
        file: &Containerfile,
        request: &'a Request,
        config: Config,
        tree: Tree,
        context: &'a Context,
    ) -> Self {
        // That it can be worked out was seen when the file was understood.
        let global = global(file, &request.arguments).unwrap_or_default();
        let arguments = Arguments::new();
        let (own_command, layers) = (false, Vec::new());
        Self { escape: file.escape, request, context, config, tree, global, arguments, own_command, layers }
    }

    /// The configuration's file and the layers.
    pub fn finish(self) -> (Vec<u8>, Vec<Packed>) {
        (self.config.finish(), self.layers)
    }

    fn expand(&self, word: &str) -> Result<String, Fault> {
        // What the image itself sets wins over an argument.
        let lookup = |name: &str| self.config.variable(name).or_else(|| self.arguments.get(name).cloned());
        words::expand(word, self.escape, &lookup)
    }

    fn expand_all(&self, text: &str) -> Result<Vec<String>, Fault> {
        let words = words::array(text).unwrap_or_else(|| words::split(text, self.escape));
        words.iter().map(|word| self.expand(word)).collect()
    }

    /// `name=value` pairs, or one name with all that follows as its value.
    fn pairs(&self, step: &Instruction) -> Result<Vec<(String, String)>, Fault> {
        let words = words::split(&step.rest, self.escape);
        if !words.first().is_some_and(|word| word.contains('=')) {
            let (name, value) = step.rest.split_once(char::is_whitespace).ok_or_else(|| {
                Fault::Syntax(format!(
                    "{} {} has no value: write {}=value",
                    step.keyword, step.rest, step.rest
                ))
            })?;
            return Ok(vec![(self.expand(name)?, self.expand(value.trim())?)]);
        }
        let pair = |word: &String| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((self.expand(name)?, self.expand(value)?)),
            _ => Err(Fault::Syntax(format!("{word} is not of the form name=value"))),
        };
        words.iter().map(pair).collect()
    }

    /// An absolute path, without `.` and `..`.
    fn absolute(&self, path: &str) -> PathBuf {
        let mut out = PathBuf::from("/");
        for part in Path::new(self.config.folder()).join(path).components() {
            match part {
                std::path::Component::Normal(part) => out.push(part),
                std::path::Component::ParentDir => {
                    out.pop();
                }
                _ => {}
            }
        }
        out
    }

    /// Does one instruction.
    pub fn step(&mut self, step: &Instruction) -> Result<(), Fault> {
        let said = format!("{} {}", step.keyword, step.rest);
        match step.keyword.as_str() {
            "COPY" | "ADD" => return self.copy(step),
            "WORKDIR" => return self.folder(step),
            "ARG" => {
                let lookup = |new: &Arguments, name: &str| {
                    let own = || self.arguments.get(name).cloned();
                    new.get(name).cloned().or_else(|| self.config.variable(name)).or_else(own)
                };
                let new = declared(step, self.escape, &self.request.arguments, lookup, &self.global)?;
                self.arguments.extend(new);
            }
            "ENV" => {
                for (name, value) in self.pairs(step)? {
                    self.config.set_variable(&name, &value);
                }
            }
            "LABEL" => {
                for (name, value) in self.pairs(step)? {
                    self.config.insert("Labels", name, value.into());
                }
            }
            "EXPOSE" => {
                for word in self.expand_all(&step.rest)?.iter().flat_map(|word| word.split_whitespace()) {
                    for port in values::ports(word)? {
                        self.config.insert("ExposedPorts", port, json!({}));
                    }
                }
            }
            "VOLUME" => {
                for path in self.expand_all(&step.rest)? {
                    self.config.insert("Volumes", path, json!({}));
                }
            }
            "USER" => self.config.set("User", self.expand(&step.rest)?.into()),
            "STOPSIGNAL" => self.config.set("StopSignal", self.expand(&step.rest)?.into()),
            "MAINTAINER" => self.config.set_author(step.rest.clone()),
            _ => self.command(step)?,
        }
        self.config.record(&said, None);
        Ok(())
    }

    fn command(&mut self, step: &Instruction) -> Result<(), Fault> {
        let words = words::array(&step.rest).unwrap_or_else(|| self.config.in_shell(&step.rest));
        match step.keyword.as_str() {
            "CMD" => {
                self.own_command = true;
                self.config.set("Cmd", words.into());
            }
            "ENTRYPOINT" => {
                // The base's command is an argument to the base's entry point.
                if !self.own_command {
                    self.config.remove("Cmd");
                }
                self.config.set("Entrypoint", words.into());
            }
            "SHELL" => {
                let words = words::array(&step.rest).filter(|words| !words.is_empty());
                let words =
                    words.ok_or_else(|| Fault::syntax("SHELL takes a list, as in [\"/bin/sh\", \"-c\"]"))?;
                self.config.set("Shell", words.into());
            }
            "HEALTHCHECK" => {
                let (kind, rest) = step.rest.split_once(char::is_whitespace).unwrap_or((&step.rest, ""));
                let mut check = values::health(&step.flags)?;
                let test = match (kind.to_uppercase().as_str(), words::array(rest.trim())) {
                    ("NONE", _) if rest.is_empty() => json!(["NONE"]),
                    ("CMD", Some(words)) => std::iter::once("CMD".to_owned()).chain(words).collect::<Value>(),
                    ("CMD", None) if !rest.trim().is_empty() => json!(["CMD-SHELL", rest.trim()]),
                    _ => return Err(Fault::syntax("HEALTHCHECK takes NONE, or CMD and a command")),
                };
                check.insert("Test".into(), test);
                self.config.set("Healthcheck", check.into());
            }
            other => return Err(Fault::Syntax(format!("there is no instruction {other}"))),
        }
        Ok(())
    }

    fn folder(&mut self, step: &Instruction) -> Result<(), Fault> {
        let path = self.absolute(&self.expand(&step.rest)?);
        let mut layer = Layer::new(Attributes { time: self.request.epoch, ..Attributes::default() });
        layer.folder(&mut self.tree, &path)?;
        let text = path.display().to_string();
        self.config.set("WorkingDir", text.clone().into());
        self.add(&format!("WORKDIR {text}"), &layer)
    }

    fn add(&mut self, said: &str, layer: &Layer) -> Result<(), Fault> {
        if layer.is_empty() {
            self.config.record(said, None);
            return Ok(());
        }
        let packed = layer.pack()?;
        self.config.record(said, Some(&packed.digest));
        self.layers.push(packed);
        Ok(())
    }

    fn attributes(&self, step: &Instruction) -> Result<Attributes, Fault> {
        let mut attributes = Attributes { time: self.request.epoch, ..Attributes::default() };
        for (name, value) in &step.flags {
            let value = self.expand(value)?;
            match name.as_str() {
                "chown" => attributes.owner = values::owner(&value)?,
                "chmod" => attributes.mode = Some(values::mode(&value)?),
                // Layers are independent of each other here in any case.
                "link" => {}
                _ => {
                    let what = format!("{} --{name}", step.keyword);
                    let instead = "--chown and --chmod are; the ignore file leaves files out";
                    return Err(Fault::Unsupported { what, instead });
                }
            }
        }
        Ok(attributes)
    }

    fn copy(&mut self, step: &Instruction) -> Result<(), Fault> {
        const ARCHIVES: [&str; 9] =
            [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"];
        let words = self.expand_all(&step.rest)?;
        let Some((to, from @ [_, ..])) = words.split_last() else {
            return Err(Fault::Syntax(format!("{} needs a source and a destination", step.keyword)));
        };
        let mut sources = Vec::new();
        for word in from {
            sources.extend(self.context.sources(word)?);
        }
        let archive = sources.iter().find(|source| {
            step.keyword == "ADD" && !source.folder && ARCHIVES.iter().any(|end| source.name.ends_with(end))
        });
        if let Some(archive) = archive {
            let what = format!("ADD of the archive {}", archive.name);
            let instead = "unpack it in the context, or COPY it as it is";
            return Err(Fault::Unsupported { what, instead });
        }
        let inside = to.ends_with('/') || [".", ".."].contains(&to.rsplit('/').next().unwrap_or_default());
        if sources.len() > 1 && !inside {
            return Err(Fault::Syntax(format!("{to} has to end with / since several files go there")));
        }
        let mut layer = Layer::new(self.attributes(step)?);
        let to = self.absolute(to);
        for source in &sources {
            layer.copy(&mut self.tree, source, &to, inside)?;
        }
        let flags = step.flags.iter().map(|(name, value)| match value.as_str() {
            "" => format!("--{name} "),
            value => format!("--{name}={value} "),
        });
        let said = format!("{} {}{}", step.keyword, flags.collect::<String>(), step.rest);
        self.add(&said, &layer)
    }
}
