//! `/containerLogs`: the runtime's log files, whose lines are `TIME STREAM TAG TEXT`, back to what was written.

mod reader;

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use self::reader::LogReader;
pub use self::reader::tail;
use super::{Body, Refusal, Server, full};
use crate::pods::log_directory;
use crate::pods::observed::State;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub limit: Option<usize>,
    /// `stdout` or `stderr` alone. KEP-3288.
    pub stream: Option<&'static str>,
}

impl Options {
    fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for (key, value) in query {
            let flag = matches!(value.as_str(), "true" | "1" | "");
            let wrong = || Refusal::bad_request(format!("invalid value {value:?} of {key}"));
            match key.as_str() {
                "follow" => options.follow = flag,
                "previous" => options.previous = flag,
                "timestamps" => options.timestamps = flag,
                "tailLines" => options.tail = Some(value.parse().map_err(|_| wrong())?),
                "limitBytes" => options.limit = Some(value.parse().map_err(|_| wrong())?),
                "sinceSeconds" => {
                    let seconds = SignedDuration::from_secs(value.parse().map_err(|_| wrong())?);
                    options.since = Some(now.checked_sub(seconds).map_err(|_| wrong())?);
                }
                "sinceTime" => options.since = Some(value.parse().map_err(|_| wrong())?),
                "stream" => {
                    options.stream = match value.as_str() {
                        "Stdout" => Some("stdout"),
                        "Stderr" => Some("stderr"),
                        "All" | "" => None,
                        _ => return Err(invalid()),
                    }
                }
                _ => {}
            }
        }
        // How many lines of one stream the end of a file has is not known before they are read.
        if options.stream.is_some() && options.tail.is_some() {
            return Err(invalid());
        }
        Ok(options)
    }
}

/// Upstream's words for parameters that it understands and does not accept.
fn invalid() -> Refusal {
    Refusal(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#.to_owned())
}

/// Answers a request for a container's log.
pub async fn handle(
    server: &Server,
    (namespace, name, container): (&str, &str, &str),
    query: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let options = Options::parse(query, server.shared.config.clock.now())?;
    let handle = server
        .pods
        .find(namespace, name)
        .ok_or_else(|| Refusal::not_found(format!("pod {name:?} not found")))?;
    let observed = handle.observed.lock().clone();
    let status = handle.memory.lock().status.clone().or_else(|| handle.pod().status.clone());
    let wanted = if options.previous {
        let id = last_ended(status.as_ref(), container).ok_or_else(|| {
            Refusal::bad_request(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            ))
        })?;
        let found =
            observed.containers.iter().find(|one| id.split_once("://").is_some_and(|(_, id)| one.id == id));
        let Some(found) = found else {
            // The runtime forgot it. Upstream has begun its answer by then, and says it there.
            return Ok(Response::new(full(format!("unable to retrieve container logs for {id}"))));
        };
        found
    } else {
        let mut instances = observed.instances(container);
        instances.find(|instance| instance.state != State::Created).ok_or_else(|| {
            let why = why_waiting(status.as_ref(), container);
            Refusal::bad_request(format!(
                "container {container:?} in pod {name:?} is waiting to start: {why}"
            ))
        })?
    };
    let pod = handle.pod();
    let path = log_directory(&server.shared, &pod).join(container).join(format!("{}.log", wanted.restarts));
    let id = wanted.id.clone();
    let mut reader = LogReader::open(path, options).map_err(Refusal::internal)?;
    let is_running = move || {
        let observed = handle.observed.lock().clone();
        observed.containers.iter().any(|c| c.id == id && c.state == State::Running) && !handle.is_removed()
    };
    reader.start().map_err(Refusal::internal)?;
    let chunks = stream::unfold((reader, is_running), |(mut reader, is_running)| async move {
        let Some(chunk) = reader.next(&is_running).await.transpose() else {
            tokio::time::sleep(BEFORE_THE_END).await;
            return None;
        };
        Some((chunk.map(|bytes| Frame::data(Bytes::from(bytes))), (reader, is_running)))
    });
    Response::builder()
        .header("content-type", "text/plain")
        .body(StreamBody::new(chunks).boxed_unsync())
        .map_err(Refusal::internal)
}

fn status_of<'a>(status: Option<&'a PodStatus>, container: &str) -> Option<&'a ContainerStatus> {
    let lists = status.into_iter().flat_map(|status| {
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
    });
    lists.flatten().flatten().find(|status| status.name == container)
}

/// The id of the container that ended last, before the one that the status is about. One that waits to be started again
/// is not there yet, so that this is the newest.
fn last_ended<'a>(status: Option<&'a PodStatus>, container: &str) -> Option<&'a str> {
    let ended = status_of(status, container)?.last_state.as_ref()?.terminated.as_ref()?;
    ended.container_id.as_deref().filter(|id| !id.is_empty())
}

/// The last text is on its way before the end is: upstream's API server, when it passes a log on by WebSocket, loses what
/// comes together with the end.
const BEFORE_THE_END: Duration = Duration::from_millis(2);

/// What a container that has no log yet waits for, in upstream's words.
fn why_waiting(status: Option<&PodStatus>, container: &str) -> String {
    let found = status_of(status, container);
    let waiting = found.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    match waiting {
        Some("ErrImagePull") => "image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "trying and failing to pull image".to_owned(),
        reason => reason.unwrap_or("ContainerCreating").to_owned(),
    }
}
