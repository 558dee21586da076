//! The `knarr` program: configuration, bootstrap and wiring.
//!
//! `main` parses, runs, and maps the error to an exit code. Everything else lives in modules that take what they
//! need as arguments.

mod api;
mod build;
mod check;
mod cluster;
mod cni;
mod commands;
mod component;
mod control_plane;
mod feature_gates;
mod join;
mod kubelet_files;
mod network;
mod node;
mod paths;
mod runtime_flags;
mod signer;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    #[cfg(debug_assertions)]
    look_for_failpoints();
    let arguments = commands::Arguments::parse_from(commands::by_program_name(std::env::args_os()));
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if commands::is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can be told, as on a full disk, the exit code is all there is.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where a test of a debug build says at which places this process is to die.
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "configuration is read once, here")]
fn look_for_failpoints() {
    if let Some(folder) = std::env::var_os("KNARR_FAILPOINTS") {
        base::failpoint::look_in(folder.into());
    }
}
