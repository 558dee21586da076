//! `knarr image`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::Which;
use super::image_build::Build;
use crate::cluster::Settings;
use crate::paths::Paths;

/// `knarr image`
#[derive(Debug, Args)]
pub struct Image {
    #[command(flatten)]
    which: Which,
    /// The socket of a runtime that runs by itself (`knarr runtime`), in place of a cluster's nodes
    #[arg(long, global = true, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// One of our runtimes that is to get an image.
pub(super) struct Target {
    /// Its node, or its endpoint where it runs by itself.
    pub name: String,
    /// Where it serves the CRI.
    pub socket: PathBuf,
    /// Where its images are; unknown where it runs by itself.
    pub root: Option<PathBuf>,
}

impl Target {
    fn node(name: &str, paths: &Paths) -> Self {
        let root = Some(paths.node(name).join("runtime"));
        Self { name: name.to_owned(), socket: paths.cri_socket(name), root }
    }

    fn alone(endpoint: &str) -> Self {
        let socket = endpoint.strip_prefix("unix://").unwrap_or(endpoint).into();
        Self { name: endpoint.to_owned(), socket, root: None }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image from a Containerfile that copies files, into every node or into an archive
    Build(Build),
    /// Import an OCI or Docker archive into every node of the cluster on this machine
    Import {
        /// The archive
        file: PathBuf,
    },
    /// List the images of every node
    Ls,
    /// Pull an image into every node
    Pull {
        /// Its name
        image: String,
    },
    /// Remove an image from every node
    Rm {
        /// Its name
        image: String,
    },
}

pub(super) fn spec(image: &str) -> Option<cri::v1::ImageSpec> {
    Some(cri::v1::ImageSpec { image: image.to_owned(), ..Default::default() })
}

/// What a runtime answers, as a sentence: the code is for programs.
pub(super) fn said(status: tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::Unavailable => anyhow::anyhow!(
            "the container runtime does not answer ({}): `knarr status` says whether a node's runs",
            status.message()
        ),
        _ => anyhow::anyhow!("{}", status.message()),
    }
}

impl Image {
    /// Runs the command on every node.
    pub fn run(self) -> Result<()> {
        if let Command::Build(build) = &self.command
            && let Some(built) = build.offline()
        {
            return built;
        }
        if let Some(endpoint) = &self.runtime_endpoint {
            let target = Target::alone(endpoint);
            return super::block_on(async {
                match &self.command {
                    Command::Build(build) => build.run(&[target]).await,
                    _ => self.on_runtime(&target.name, endpoint).await,
                }
            });
        }
        let paths = self.which.paths();
        let settings = Settings::load(&paths.settings())?;
        let nodes = super::local_nodes(&paths, settings.as_ref())?;
        if nodes.is_empty() {
            bail!(
                "cluster {:?} has no node on this machine: make one with `knarr up`, or join one with `knarr agent`",
                self.which.name
            );
        }
        super::block_on(async {
            if let Command::Build(build) = &self.command {
                let targets: Vec<_> = nodes.iter().map(|node| Target::node(node, &paths)).collect();
                return build.run(&targets).await;
            }
            for node in nodes {
                let external =
                    settings.as_ref().and_then(|settings| settings.for_nodes().runtime_endpoint_of(&node));
                let runtime = match (&self.command, external) {
                    (Command::Import { .. }, Some(endpoint)) => bail!(
                        "the runtime at {endpoint} is not Knarr's: import with its own tool, as with `ctr --namespace k8s.io images import`"
                    ),
                    (_, Some(endpoint)) => endpoint,
                    (_, None) => paths.cri_socket(&node).display().to_string(),
                };
                self.on_runtime(&node, &runtime).await.with_context(|| format!("on node {node}"))?;
            }
            Ok(())
        })
    }

    async fn on_runtime(&self, node: &str, runtime: &str) -> Result<()> {
        if let Command::Import { file } = &self.command {
            return import(node, &Target::alone(runtime).socket, file).await;
        }
        let (_, mut images) = cri::connect(runtime).await?;
        match &self.command {
            Command::Build(_) | Command::Import { .. } => {}
            Command::Ls => {
                let request = cri::v1::ListImagesRequest::default();
                let list = images.list_images(request).await.map_err(said)?.into_inner();
                for image in list.images {
                    let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
                    say!("{node}\t{}\t{:.1}M", names.join(" "), image.size as f64 / f64::from(1 << 20));
                }
            }
            Command::Pull { image } => {
                let spinner = waiting(node, image);
                let request = cri::v1::PullImageRequest { image: spec(image), ..Default::default() };
                let pulled = images.pull_image(request).await;
                spinner.finish_and_clear();
                pulled.map_err(said)?;
                say!("{node}: pulled {image}");
            }
            Command::Rm { image } => {
                let request = cri::v1::RemoveImageRequest { image: spec(image) };
                images.remove_image(request).await.map_err(said)?;
                say!("{node}: removed {image}");
            }
        }
        Ok(())
    }
}

/// Shows for how long a node has been pulling: the runtime does not say how far it is. Quiet in a pipe.
fn waiting(node: &str, image: &str) -> ProgressBar {
    let spinner =
        ProgressBar::new_spinner().with_prefix(node.to_owned()).with_message(format!("pulling {image}"));
    if let Ok(style) = ProgressStyle::with_template("{prefix} {spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

pub(super) async fn import(node: &str, socket: &std::path::Path, file: &std::path::Path) -> Result<()> {
    let size = std::fs::metadata(file).with_context(|| format!("reading {}", file.display()))?.len();
    // Draws on a terminal only; quiet in a pipe.
    let bar = ProgressBar::new(size).with_prefix(node.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {msg}") {
        bar.set_style(style);
    }
    let names = runtime::import_client(socket, file, |progress| {
        bar.set_position(progress.read);
        bar.set_message(progress.step);
    })
    .await?;
    bar.finish_and_clear();
    say!("{node}: imported {}", names.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn errors_are_sentences() {
        let status = tonic::Status::not_found("image \"x\" not found");
        assert_eq!(said(status).to_string(), "image \"x\" not found");
        let away = said(tonic::Status::unavailable("connection refused")).to_string();
        assert!(away.contains("does not answer (connection refused)") && !away.contains("code"), "{away}");
    }
}
