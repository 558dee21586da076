//! Images from a Containerfile that copies files and sets metadata.
//!
//! Nothing is run and nothing is downloaded, so that a build needs neither a container nor root. Does not know
//! about nodes: what it begins from comes in as [`Base`], and what it makes goes out as [`Built`].
//!
//! Invariants: nothing outside of the context is read; the same files give the same layers.

pub mod archive;
mod config;
mod containerfile;
mod context;
mod fault;
mod ignore;
mod layer;
mod steps;
mod tree;
mod values;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use config::Config;
use containerfile::Containerfile;
use context::Context;
pub use fault::{BuildError, Fault};
use ignore::Ignore;
pub use layer::Packed;
use tree::Tree;

/// What a build is asked for, all of it read already.
#[derive(Debug)]
pub struct Request {
    /// What messages call the Containerfile.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The folder that is copied from.
    pub context: PathBuf,
    /// The text of its ignore file, or nothing.
    pub ignore: String,
    /// Values for `ARG`.
    pub arguments: BTreeMap<String, String>,
    /// Seconds since 1970 that every time shall be.
    pub epoch: Option<u64>,
    /// The time now in RFC 3339, or that of `epoch`.
    pub created: String,
}

/// The image that a build begins from.
#[derive(Debug)]
pub struct Base {
    /// Its configuration.
    pub config: Value,
    /// Its layers as folders, the topmost first.
    pub layers: Vec<PathBuf>,
}

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The configuration's file.
    pub config: Vec<u8>,
    /// How many layers the base has.
    pub base_layers: usize,
    /// Those above them, the lowest first.
    pub layers: Vec<Packed>,
}

/// A build whose file is understood.
pub struct Plan {
    request: Request,
    file: Containerfile,
    base: Option<String>,
}

fn placed(file: &str, line: usize) -> impl Fn(Fault) -> BuildError {
    move |source| BuildError { file: file.to_owned(), line, source }
}

impl Plan {
    /// Understands the file, as far as that goes without its base.
    pub fn new(request: Request) -> Result<Self, BuildError> {
        let file = containerfile::parse(&request.text)
            .map_err(|(line, fault)| placed(&request.file, line)(fault))?;
        let base = steps::base(&file, &request.arguments)
            .map_err(|(line, fault)| placed(&request.file, line)(fault))?;
        Ok(Self { request, file, base })
    }

    /// The image that it begins from; `None` for scratch.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// Given arguments that no `ARG` asks for.
    pub fn unused_arguments(&self) -> Vec<&str> {
        let asked = |name: &&String| {
            let mut all =
                self.file.before.iter().chain(&self.file.steps).filter(|step| step.keyword == "ARG");
            all.any(|step| {
                step.rest.split_whitespace().any(|word| word.split('=').next() == Some(name.as_str()))
            })
        };
        self.request.arguments.keys().filter(|name| !asked(name)).map(String::as_str).collect()
    }

    /// Builds. Blocks.
    pub fn build(&self, base: Option<Base>) -> Result<Built, BuildError> {
        let from = placed(&self.request.file, self.file.from.line);
        let (base, layers) = base.map(|base| (base.config, base.layers)).unzip();
        let config = Config::new(base, self.request.created.clone()).map_err(&from)?;
        let context = Context::open(&self.request.context, Ignore::parse(&self.request.ignore))
            .map_err(|error| from(Fault::read(&self.request.context)(error)))?;
        let base_layers = config.layers();
        let tree = Tree::new(layers.unwrap_or_default());
        let mut stage = steps::Stage::new(&self.file, &self.request, config, tree, &context);
        for step in &self.file.steps {
            stage.step(step).map_err(placed(&self.request.file, step.line))?;
        }
        let (config, layers) = stage.finish();
        Ok(Built { config, base_layers, layers })
    }
}

/// The file to build from, where none is named, and the ignore files that can go with it, best first.
pub fn usual_files(context: &Path, file: Option<&Path>) -> (Vec<PathBuf>, impl Fn(&Path) -> Vec<PathBuf>) {
    let files = file.map_or_else(
        || ["Containerfile", "Dockerfile"].map(|name| context.join(name)).to_vec(),
        |file| vec![file.to_owned()],
    );
    let context = context.to_owned();
    let ignores = move |file: &Path| {
        let suffixes = [".containerignore", ".dockerignore"];
        let own = suffixes.map(|suffix| {
            let mut name = file.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        });
        own.into_iter().chain(suffixes.map(|name| context.join(name))).collect()
    };
    (files, ignores)
}

#[cfg(test)]
mod tests;
