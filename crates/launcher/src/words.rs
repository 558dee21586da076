//! What libcontainer says of its errors. Their causes stand only in its log, and those who write that are processes that
//! it forks: the lines go through a pipe that all of them have.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::process::{self, Pipe};

/// The most bytes of one line; less than what a pipe takes in one piece.
const LINE: usize = 1000;
/// The most bytes that are added to an error.
const ADDED: usize = 2000;

/// The reader of what is said.
pub struct Words(File);

impl Words {
    /// Listens from now on, in this process and in those that it forks.
    ///
    /// # Errors
    /// When there can be no pipe, or somebody listens already.
    pub fn listen() -> io::Result<Self> {
        let (words, listener) = pair()?;
        tracing::subscriber::set_global_default(listener).map_err(io::Error::other)?;
        Ok(words)
    }

    /// An error's text with what was said and does not stand there, in its order.
    pub fn explain(mut self, text: String) -> String {
        let mut said = Vec::new();
        // Its writers do not wait, and neither does its reader: what there is comes before the error for want of more.
        let _ = self.0.read_to_end(&mut said);
        explain(text, &String::from_utf8_lossy(&said))
    }
}

fn pair() -> io::Result<(Words, Listener)> {
    let pipe = Pipe::new()?;
    let (reader, writer) =
        (process::out_of_the_way(&pipe.reader()?)?, process::out_of_the_way(&pipe.writer()?)?);
    for end in [&reader, &writer] {
        process::set_nonblocking(end)?;
    }
    Ok((Words(reader), Listener(writer)))
}

fn explain(mut text: String, said: &str) -> String {
    let most = text.len() + ADDED;
    for line in said.lines().filter(|line| !line.is_empty()) {
        if text.contains(line) {
            continue;
        }
        text.push_str(": ");
        text.push_str(line);
    }
    text.truncate(text.floor_char_boundary(most));
    text
}

/// Writes down the errors.
struct Listener(File);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.message + &line.fields;
        // One line each, whatever somebody's names hold.
        text = text.replace('\n', " ");
        text.truncate(text.floor_char_boundary(LINE));
        text.push('\n');
        // Nobody is left to tell when there is no room.
        let _ = (&self.0).write_all(text.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event in words: `message (field: value)`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " ({name}: {value:?})"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_added_in_their_order_and_once() {
        let (words, listener) = pair().unwrap();
        tracing::subscriber::with_default(listener, || {
            tracing::error!("failed to mount {:?}", "/a\nb");
            tracing::warn!("nobody's business");
            tracing::error!(err = ?io::ErrorKind::NotFound, "failed to prepare rootfs");
            tracing::error!("failed to make it");
        });
        assert_eq!(
            words.explain("failed to make it".into()),
            "failed to make it: failed to mount \"/a\\nb\": failed to prepare rootfs (err: NotFound)"
        );
    }

    #[test]
    fn nothing_said_adds_nothing_and_a_flood_not_much() {
        let (words, listener) = pair().unwrap();
        assert_eq!(words.explain("why".into()), "why");
        drop(listener);
        let (words, listener) = pair().unwrap();
        tracing::subscriber::with_default(listener, || {
            (0..1000).for_each(|number| tracing::error!("{number} {}", "é".repeat(LINE)));
        });
        let text = words.explain("why".into());
        assert!(text.starts_with("why: 0 é") && text.len() <= 3 + ADDED, "{} bytes", text.len());
    }
}
