//! The project's own tools: what the compiler does not check.

mod bench;
mod conformance;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the layering of crates, the sizes of files and functions, and the links of the documentation
    Tidy,
    /// Measure the design's budgets, beside another API server if there is one
    Bench(Box<bench::Bench>),
    /// Run Kubernetes' own end-to-end tests against a cluster of its own
    Conformance(Box<conformance::Conformance>),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Tidy => tidy::run(),
        Command::Bench(bench) => bench.run(),
        Command::Conformance(conformance) => conformance.run(),
    }
}
