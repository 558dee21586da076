//! `knarr image build`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base::SystemClock;
use clap::Args;
use serde_json::Value;

use super::image::{Target, import, said, spec};
use crate::build::{self, Base, Plan, Request, archive};

/// `knarr image build`
#[derive(Debug, Args)]
pub struct Build {
    /// Its name, with or without a tag; can be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// The Containerfile [default: CONTEXT/Containerfile or CONTEXT/Dockerfile]
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Write an OCI archive instead of importing into the nodes
    #[arg(short, long, value_name = "ARCHIVE")]
    output: Option<PathBuf>,
    /// A value for an ARG; can be given several times
    #[arg(long = "build-arg", value_name = "K=V", value_parser = argument)]
    arguments: Vec<(String, String)>,
    /// Set every time in the image to this one, in seconds since 1970
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    source_date_epoch: Option<u64>,
    /// The folder that is copied from
    #[arg(default_value = ".")]
    context: PathBuf,
}

fn argument(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has to be of the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The first of some files that is there.
fn first(files: &[PathBuf]) -> Result<Option<(PathBuf, String)>> {
    for file in files {
        match std::fs::read_to_string(file) {
            Ok(text) => return Ok(Some((file.clone(), text))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }
    Ok(None)
}

impl Build {
    /// Builds an archive, which needs no cluster. `None` if that is not what was asked for.
    pub fn offline(&self) -> Option<Result<()>> {
        self.output.as_ref().map(|output| {
            let plan = self.plan()?;
            if let Some(base) = plan.base() {
                bail!(
                    "{base} is the base, and nodes do not keep an image's layers as they were packed: leave -o out to \
                     build into the nodes, or begin from scratch"
                );
            }
            let built = plan.build(None)?;
            let write = || archive::oci(&built, &self.tags, File::create(output)?);
            write().with_context(|| format!("writing {}", output.display()))?;
            say!("built {}", output.display());
            Ok(())
        })
    }

    fn plan(&self) -> Result<Plan> {
        let (files, ignores) = build::usual_files(&self.context, self.file.as_deref());
        let Some((file, text)) = first(&files)? else {
            let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            bail!("{} is not there: name the Containerfile with -f", names.join(" or "));
        };
        let ignore = first(&ignores(&file))?.map(|(_, text)| text).unwrap_or_default();
        let now = SystemClock::shared().now();
        let created = match self.source_date_epoch {
            Some(seconds) => jiff::Timestamp::from_second(i64::try_from(seconds)?)?,
            None => now,
        };
        let plan = Plan::new(Request {
            file: file.display().to_string(),
            text,
            context: self.context.clone(),
            ignore,
            arguments: self.arguments.iter().cloned().collect::<BTreeMap<_, _>>(),
            epoch: self.source_date_epoch,
            created: created.to_string(),
        })?;
        for name in plan.unused_arguments() {
            eprintln!("warning: no ARG asks for --build-arg {name}");
        }
        Ok(plan)
    }

    /// Builds once and imports the result into every runtime.
    pub async fn run(&self, targets: &[Target]) -> Result<()> {
        if self.tags.is_empty() {
            bail!("an image on nodes needs a name: give it one with -t, or write an archive with -o");
        }
        let plan = self.plan()?;
        let base = match plan.base() {
            Some(image) => Some(base_of(image, targets).await?),
            None => None,
        };
        let built = plan.build(base)?;
        let archive = tempfile::NamedTempFile::new().context("making a temporary file")?;
        archive::for_nodes(&built, &self.tags, archive.as_file()).context("writing the image")?;
        for Target { name, socket, .. } in targets {
            import(name, socket, archive.path()).await.with_context(|| format!("on node {name}"))?;
        }
        Ok(())
    }
}

/// The base, which every node then has: they take its layers from what they hold.
async fn base_of(image: &str, targets: &[Target]) -> Result<Base> {
    let mut found: Option<(&Target, Value)> = None;
    for target in targets {
        let name = &target.name;
        let info =
            described(image, &target.socket).await.with_context(|| format!("on node {name}: {image}"))?;
        match &found {
            Some((Target { name: first, .. }, have)) if *have != info => bail!(
                "nodes {first} and {name} have different images under the name {image}: name it by its digest, or pull \
                 it again with `knarr image pull {image}`"
            ),
            _ => found = Some((target, info)),
        }
    }
    let (target, mut info) = found.context("there is no node")?;
    let Some(root) = &target.root else {
        bail!(
            "{image} is the base, whose layers are looked for where a node keeps them: {} is none",
            target.name
        );
    };
    let mut field = |name| {
        info.get_mut(name).map(Value::take).with_context(|| format!("{image} is described without {name}"))
    };
    let layers = runtime::ImageStore::open(root)?.layers();
    let chain: Vec<String> = serde_json::from_value(field("chainIDs")?).context("the layers of the base")?;
    let layers = chain.iter().rev().map(|id| layers.join(id).join("fs")).collect();
    Ok(Base { config: field("imageSpec")?, layers })
}

/// What a node says of an image, which it pulls if it has to.
async fn described(image: &str, socket: &Path) -> Result<Value> {
    let (_, mut images) = cri::connect(&socket.display().to_string()).await?;
    let request = || cri::v1::ImageStatusRequest { image: spec(image), verbose: true };
    let mut status = images.image_status(request()).await.map_err(said)?.into_inner();
    if status.image.is_none() {
        let pull = cri::v1::PullImageRequest { image: spec(image), ..Default::default() };
        images.pull_image(pull).await.map_err(said)?;
        status = images.image_status(request()).await.map_err(said)?.into_inner();
    }
    let info = status.info.get("info").context("the runtime does not describe it")?;
    serde_json::from_str(info).context("the runtime's description of it")
}
