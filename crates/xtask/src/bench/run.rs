//! Runs the rows, in turn on ours and the other.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::peers::Peer;
use super::rows::{self, Needs, Row};
use super::table::{self, Column, Line, Sample};
use super::target::{CONNECTIONS, Target};
use super::{Bench, Output};

/// Runs the chosen rows and prints the table.
///
/// # Errors
/// When a row is unknown, when the run is interrupted, and after the table when a row has failed.
pub(super) async fn run(bench: &Bench, knarr: &Path, root: &Path) -> Result<()> {
    let mut all = rows::all(bench);
    if let Some(unknown) = bench.rows.iter().find(|name| !all.iter().any(|row| row.name.starts_with(*name))) {
        bail!("there is no row {unknown:?}: see --list");
    }
    all.retain(|row| bench.rows.is_empty() || bench.rows.iter().any(|name| row.name.starts_with(name)));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Whichever way this ends, the clusters are dropped, and with that taken down.
    let lines = tokio::select! {
        lines = lines(bench, knarr, all) => lines,
        _ = term.recv() => bail!("ended"),
        _ = int.recv() => bail!("interrupted"),
    };
    let build = bench.clean_build.then(|| super::build::clean(root)).transpose()?;
    let lines: Vec<Line> = lines.into_iter().chain(build).collect();
    let conditions = format!(
        "medians of {}; writes are acknowledged when on disk; JSON but where a row says protobuf; HTTP/2 over TLS \
         with client certificates, {CONNECTIONS} connections; load from one thread on the same machine",
        bench.pairs
    );
    match bench.output {
        Output::Text => print!("{conditions}\n\n{}", table::text(&lines)),
        Output::Json => {
            let report = serde_json::json!({"conditions": conditions, "rows": lines});
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
    }
    match lines.iter().filter(|line| line.failed()).count() {
        0 => Ok(()),
        failed => bail!("{failed} rows have failed"),
    }
}

async fn lines(bench: &Bench, knarr: &Path, rows: Vec<Row>) -> Vec<Line> {
    let mut lines = Vec::new();
    for row in rows {
        let shared = matches!(row.needs, Needs::Api | Needs::Scheduler);
        if bench.only_against && !shared {
            continue;
        }
        eprintln!("{}: {}", row.name, row.what);
        let mut problems = Vec::new();
        let mut columns = Vec::new();
        if let Err(error) = measured(bench, knarr, &row, &mut columns).await {
            eprintln!("  {error:#}");
            problems.push(format!("{error:#}"));
        }
        lines.push(Line::new((row.name, row.what), &row.budgets, &columns, problems));
    }
    lines
}

/// The servers of a row, each with its column.
async fn targets(bench: &Bench, knarr: &Path, row: &Row) -> Result<Vec<(&'static str, Target)>> {
    let mut targets = Vec::new();
    let node = row.needs == Needs::Node;
    if !bench.only_against {
        let ours = Target::ours(knarr, node.then(Peer::default)).await.context("ours")?;
        targets.push((table::OURS, ours));
    }
    for (name, peer) in bench.programs.peers().into_iter().filter(|_| node) {
        targets.push((name, Target::ours(knarr, Some(peer)).await.context(name)?));
    }
    if let (Some(kubeconfig), Needs::Api | Needs::Scheduler) = (&bench.against, row.needs) {
        let other =
            Target::other(kubeconfig, &bench.against_pids, &bench.against_comm).await.context("other")?;
        // A run that was interrupted may have left something.
        row.measure.clean(&other).await.context("cleaning other")?;
        targets.push(("other", other));
    }
    Ok(targets)
}

async fn measured(bench: &Bench, knarr: &Path, row: &Row, columns: &mut Vec<Column>) -> Result<()> {
    let mut targets = targets(bench, knarr, row).await?;
    columns.extend(targets.iter().map(|(name, _)| (*name, Vec::new())));
    for (name, target) in &targets {
        row.measure.prepare(target).await.with_context(|| format!("preparing {name}"))?;
    }
    let rounds = if row.once { 1 } else { bench.pairs.max(1) };
    let measured = rounds_of(row, rounds, &mut targets, columns).await;
    // Our own goes with its cluster.
    let mut cleaned = Ok(());
    for (name, target) in targets.iter_mut().filter(|(_, target)| target.cluster.is_none()) {
        target.connect_again().await?;
        cleaned = row.measure.clean(target).await.with_context(|| format!("cleaning {name}"));
    }
    measured.and(cleaned)
}

async fn rounds_of(
    row: &Row,
    rounds: usize,
    targets: &mut [(&'static str, Target)],
    columns: &mut [Column],
) -> Result<()> {
    for round in 0..rounds {
        for (at, ((name, target), (_, samples))) in targets.iter_mut().zip(columns.iter_mut()).enumerate() {
            if round > 0 || at > 0 {
                target.connect_again().await?;
            }
            let sample = row.measure.measure(target, round).await.with_context(|| (*name).to_owned())?;
            eprintln!("  {name}: {}", show(&sample));
            samples.push(sample);
        }
    }
    Ok(())
}

fn show(sample: &Sample) -> String {
    let figures = sample.iter().map(|(name, value)| format!("{name} {}", super::stats::short(*value)));
    figures.collect::<Vec<_>>().join(", ")
}
