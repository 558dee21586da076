//! Starts one container, or one process in a running container, and exits.
//!
//! The shim forks it and hands it descriptors: what to run ([`proto::FD_INPUT`]), a socket for
//! reports ([`proto::FD_REPORT`]) and the process's stdio. Whatever it starts is a child of the
//! shim, not its own. It is a program of its own because libcontainer forks, which must never
//! happen in a process with threads, and because its memory is gone as soon as the container runs.
//! It knows nothing of pods, images or logs.

#[expect(dead_code, reason = "the shim and the runtime use the rest")]
#[path = "../../shim/src/proto.rs"]
mod proto;

mod create;
mod exec;
mod lean;
mod link;
mod over;
mod process;
mod program;
mod words;

use std::error::Error;
use std::process::ExitCode;

use link::Link;
use words::Words;

fn main() -> ExitCode {
    link::restore_sigpipe();
    if std::env::args().nth(1).as_deref() == Some("over") {
        return hook(over::run(std::env::args().skip(2)));
    }
    let link = Link::inherited();
    // Without a pipe to spare, errors stay short.
    let words = Words::listen().ok();
    let mode = std::env::args().nth(1).unwrap_or_default();
    let result = match mode.as_str() {
        "create" => create::run(&link),
        "exec" => exec::run(&link),
        other => Err(format!("the launcher knows create and exec, not {other:?}").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = chain(error.as_ref());
            link.failed(&match words {
                Some(words) => words.explain(text),
                None => text,
            });
            ExitCode::FAILURE
        }
    }
}

/// Ends as a hook does; what it says comes to whoever runs it.
fn hook(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mounting over a place of the container: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, without repeating a cause that its effect has quoted already.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
