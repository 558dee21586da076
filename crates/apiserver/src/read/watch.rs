//! Watches: what is there, then every change, with bookmarks, until a timeout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

use super::select::Selection;
use super::{get, options};
use crate::answer::{Include, Writer, error_frame};
use crate::body::{Body, BoxError};
use crate::cache::{Cache, Change, ChangeKind, Cut, Entry, Watcher};
use crate::codec::Codec;
use crate::core::Core;
use crate::negotiate::{Encoding, Output, Shape};
use crate::pipeline::authorize::Authorized;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// How often a client that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Frames that wait for a client that reads slowly. What waits beyond them waits in the watcher's queue, which cuts
/// it off.
const FRAMES: usize = 16;

struct Plan {
    initial: Vec<Arc<Entry>>,
    watcher: Watcher,
    /// The revision as of which the initial entries are complete, where the client wants to be told.
    tell_end: Option<u64>,
}

/// Answers a watch.
///
/// # Errors
/// 400 for options that contradict each other. A version that is gone is told by the watch.
pub async fn watch(
    core: &Arc<Core>,
    authorized: &Authorized,
    resource: &Arc<Resource>,
    output: Output,
) -> Result<Response<Body>> {
    let info = authorized.info();
    options::check_watch(info)?;
    let selection = Selection::read(info, resource)?;
    let (codec, cache) = core.codec(resource)?;
    if output.encoding == Encoding::Protobuf && resource.custom.is_some() && output.shape == Shape::Object {
        return Err(ApiError::not_acceptable(&["application/json", "application/yaml"]));
    }
    let version = info.param("resourceVersion").unwrap_or_default();
    let send_initial = info.param("sendInitialEvents").map(|value| value != "false" && value != "0");
    let bookmarks = info.flag("allowWatchBookmarks");
    let from_state = match send_initial {
        Some(send) => send,
        None => matches!(version, "" | "0"),
    };
    let end = send_initial == Some(true) && bookmarks;
    let plan = match begin(core, &cache, &selection, version, from_state, end).await {
        Ok(plan) => plan,
        // As upstream's: once a watch's options are understood, the watch itself tells what is wrong. Clients begin
        // anew when they read 410 there, and kube-rs does so only there.
        Err(error) if matches!(error.code, 410 | 504) => return Ok(refused(&error, output.encoding)),
        Err(error) => return Err(error),
    };
    let seconds = match info.param("timeoutSeconds").map(str::parse::<u64>) {
        Some(Ok(seconds)) if seconds > 0 => seconds,
        // Between half an hour and an hour, so that not all watches come back at once.
        _ => 1800 + core.random.below(1800),
    };
    let include = Include::read(info.param("includeObject"), output.shape)?;
    let (sender, receiver) = mpsc::channel::<Bytes>(FRAMES);
    let stream = Stream {
        core: core.clone(),
        resource: resource.clone(),
        codec,
        output,
        include,
        selection,
        sender,
        bookmarks,
        last: 0,
        columns_told: false,
    };
    core.tasks.spawn(async move {
        let timeout = tokio::time::sleep(Duration::from_secs(seconds));
        stream.run(plan, timeout).await;
    });
    Ok(streaming(receiver, output.encoding))
}

/// Waits until the cache is new enough, and begins with what is there or right after `version`.
async fn begin(
    core: &Arc<Core>,
    cache: &Cache,
    selection: &Selection,
    version: &str,
    from_state: bool,
    tell_end: bool,
) -> Result<Plan> {
    get::fresh_enough(core, Some(version)).await?;
    if from_state {
        let (revision, entries, watcher) = cache.list_and_watch(selection.namespace());
        let initial = entries.into_iter().filter(|entry| selection.matches(entry)).collect();
        return Ok(Plan { initial, watcher, tell_end: tell_end.then_some(revision) });
    }
    let from = if matches!(version, "" | "0") { None } else { Some(get::parse_version(version)?) };
    let watcher = cache.watch(from).map_err(|cut| ApiError::expired(cut.to_string()))?;
    Ok(Plan { initial: Vec::new(), watcher, tell_end: None })
}

/// A watch that tells an error and ends.
fn refused(error: &ApiError, encoding: Encoding) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for it.
    let _ = sender.try_send(error_frame(error, encoding));
    streaming(receiver, encoding)
}

fn streaming(receiver: mpsc::Receiver<Bytes>, encoding: Encoding) -> Response<Body> {
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let media_type = http::HeaderValue::from_static(encoding.stream_media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

struct Stream {
    core: Arc<Core>,
    resource: Arc<Resource>,
    codec: Codec,
    output: Output,
    include: Include,
    selection: Selection,
    sender: mpsc::Sender<Bytes>,
    bookmarks: bool,
    /// The newest revision that the client was told of.
    last: u64,
    columns_told: bool,
}

impl Stream {
    async fn run(mut self, mut plan: Plan, timeout: tokio::time::Sleep) {
        tokio::pin!(timeout);
        for entry in std::mem::take(&mut plan.initial) {
            if !self.send("ADDED", &entry).await {
                return;
            }
        }
        if let Some(revision) = plan.tell_end {
            if !self.bookmark(revision, true).await {
                return;
            }
        }
        let mut ticks =
            tokio::time::interval_at(tokio::time::Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
        loop {
            let alive = tokio::select! {
                () = &mut timeout => {
                    self.bookmark_if_wanted(&plan.watcher).await;
                    return;
                }
                () = self.sender.closed() => return,
                _ = ticks.tick() => self.bookmark_if_wanted(&plan.watcher).await,
                next = plan.watcher.next() => match next {
                    Ok(change) => self.change(&change).await,
                    Err(cut) => {
                        self.cut(&cut).await;
                        return;
                    }
                },
            };
            if !alive {
                return;
            }
        }
    }

    async fn cut(&self, cut: &Cut) {
        let error = ApiError::expired(cut.to_string());
        // A client that does not even read this learns it from the end of the stream.
        let _ = self.sender.send(error_frame(&error, self.output.encoding)).await;
    }

    async fn change(&mut self, change: &Arc<Change>) -> bool {
        let now = change.kind != ChangeKind::Deleted && self.selection.matches(&change.entry);
        let before = change.previous.as_ref().is_some_and(|entry| self.selection.matches(entry));
        let kind = match (before, now) {
            (false, false) => return true,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        // Several changes may share a revision: those of one transaction, such as the end of a lease.
        self.last = self.last.max(change.revision);
        let plain = match change.kind {
            ChangeKind::Added => kind == "ADDED",
            ChangeKind::Modified => kind == "MODIFIED",
            ChangeKind::Deleted => kind == "DELETED",
        };
        let shared = plain && self.output.shape == Shape::Object && self.codec.storage.ty == self.resource.ty;
        if !shared {
            return self.send(kind, &change.entry).await;
        }
        let mut failed = None;
        let mut encode = || {
            let frame = self.writer().frame(kind, &change.entry, false);
            frame.unwrap_or_else(|error| {
                let frame = error_frame(&error, self.output.encoding);
                failed = Some(error);
                frame
            })
        };
        let frame = match self.output.encoding {
            Encoding::Protobuf => change.protobuf_frame(&mut encode),
            _ => change.json_frame(&mut encode),
        };
        self.sender.send(frame).await.is_ok() && failed.is_none()
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            resource: &self.resource,
            codec: &self.codec,
            output: self.output,
            now: self.core.clock.now().as_second(),
            include: self.include,
        }
    }

    async fn send(&mut self, kind: &str, entry: &Entry) -> bool {
        self.last = self.last.max(entry.revision);
        let first = !std::mem::replace(&mut self.columns_told, true);
        let frame = self.writer().frame(kind, entry, first);
        match frame {
            Ok(frame) => self.sender.send(frame).await.is_ok(),
            Err(error) => {
                let _ = self.sender.send(error_frame(&error, self.output.encoding)).await;
                false
            }
        }
    }

    async fn bookmark_if_wanted(&mut self, watcher: &Watcher) -> bool {
        if !self.bookmarks {
            return true;
        }
        // Read before the queue is looked at: if nothing waits there, everything up to this revision was told.
        let reached = self.core.progress().revision();
        let revision = if watcher.is_drained() { self.last.max(reached) } else { self.last };
        self.bookmark(revision, false).await
    }

    async fn bookmark(&mut self, revision: u64, initial_end: bool) -> bool {
        if revision == 0 {
            return true;
        }
        self.last = self.last.max(revision);
        let frame = self.writer().bookmark(revision, initial_end);
        match frame {
            Ok(frame) => self.sender.send(frame).await.is_ok(),
            Err(_) => false,
        }
    }
}
