//! Tells whoever is on the node which pods it has, and what happens to them, without a way to the API server
//! (`pods/v1alpha1`, KEP-4188), at `<root>/pods-api/pods-api.sock`.

use std::sync::Arc;

use cri::pods as wire;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::broadcast::{self, error::RecvError};
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status};
use wire::EventType;
use wire::pods_server::{Pods as PodsService, PodsServer};

use crate::Shared;
use crate::counts::{Counts, table};
use crate::pods::{Handle, Pods};
use crate::socket::{SocketError, listen};

/// The most calls at once, those that watch included.
const MOST_CALLS: usize = 64;
/// How far behind who watches may be.
const BEHIND: usize = 100;
/// The version that is served, as metrics name it.
const VERSION: &str = "v1alpha1";

type Event = (EventType, Arc<Pod>);

/// Who watches pods.
pub(crate) struct Watched(broadcast::Sender<Event>);

impl Default for Watched {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Watched {
    /// A pod has another status than before, or its first one.
    pub fn changed(&self, pod: &Pod, status: &PodStatus, first: bool) {
        let event = if first { EventType::Added } else { EventType::Modified };
        self.tell(event, || Pod { status: Some(status.clone()), ..pod.clone() });
    }

    /// A pod is gone.
    pub fn deleted(&self, pod: &Pod) {
        self.tell(EventType::Deleted, || {
            let mut gone = Pod::default();
            gone.metadata.name.clone_from(&pod.metadata.name);
            gone.metadata.namespace.clone_from(&pod.metadata.namespace);
            gone.metadata.uid.clone_from(&pod.metadata.uid);
            gone
        });
    }

    fn tell(&self, event: EventType, pod: impl FnOnce() -> Pod) {
        if self.0.receiver_count() > 0 {
            // Who has just gone needs it no more.
            drop(self.0.send((event, Arc::new(pod()))));
        }
    }
}

struct Calls {
    shared: Arc<Shared>,
    pods: Pods,
}

/// Listens.
///
/// # Errors
/// [`SocketError`].
pub fn serve(shared: &Arc<Shared>, pods: Pods) -> Result<(), SocketError> {
    let incoming = listen(&shared.config.root_dir.join("pods-api/pods-api.sock"))?;
    let calls = Calls { shared: shared.clone(), pods };
    let server = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(MOST_CALLS)
        .add_service(PodsServer::new(calls));
    let shutdown = shared.tasks.shutdown().clone();
    shared.tasks.spawn(async move {
        let end = async move { shutdown.wait().await };
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, end).await {
            tracing::error!(%error, "pods are not told to others on the node any more");
        }
    });
    Ok(())
}

impl Calls {
    /// All pods in the order of their uids, encoded.
    fn all(&self) -> Result<Vec<Vec<u8>>, Status> {
        if !self.pods.is_complete() {
            return Err(Status::failed_precondition("Kubelet is initializing"));
        }
        let mut handles = self.pods.list();
        handles.sort_by(|one, other| one.uid.cmp(&other.uid));
        handles.iter().map(|handle| encode(&shown(handle))).collect()
    }

    fn one(&self, uid: &str) -> Result<Vec<u8>, Status> {
        if !self.pods.is_complete() {
            return Err(Status::failed_precondition("Kubelet is initializing"));
        }
        let found =
            self.pods.get(uid).ok_or_else(|| Status::not_found(format!("pod with UID {uid} not found")));
        encode(&shown(&*found?))
    }
}

/// A pod as it is known here. Before this kubelet has seen it run, nobody is told that it is ready.
fn shown(handle: &Handle) -> Pod {
    let mut pod = handle.known();
    if handle.memory.lock().status.is_none() {
        unverified(pod.status.get_or_insert_default());
    }
    pod
}

fn unverified(status: &mut PodStatus) {
    status.phase.get_or_insert_with(|| "Pending".to_owned());
    let mut conditions = status.conditions.iter_mut().flatten();
    if let Some(ready) = conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")
    {
        "False".clone_into(&mut ready.status);
        ready.reason = Some("ContainersNotReady".to_owned());
        ready.message = Some("Kubelet is initializing pod containers".to_owned());
    }
}

fn encode(pod: &Pod) -> Result<Vec<u8>, Status> {
    let failed = |why: String| Status::internal(format!("failed to marshal pod: {why}"));
    let kind =
        schema::builtin().kind("", "v1", "Pod").ok_or_else(|| failed("there is no such kind".to_owned()))?;
    let object = schema::serde::to_object(&kind.ty, pod).map_err(|error| failed(error.to_string()))?;
    Ok(schema::protobuf::encode(&object))
}

fn event(event: EventType, pod: Vec<u8>) -> wire::WatchPodsEvent {
    wire::WatchPodsEvent { r#type: event.into(), pod }
}

/// Counts how a call ended, when it has.
struct Counted {
    counts: Arc<Counts>,
    row: &'static table::Row,
    code: Code,
}

impl Counted {
    fn new(shared: &Shared, row: &'static table::Row) -> Self {
        // What is given up before its end is cancelled by who asked.
        Self { counts: shared.counts.clone(), row, code: Code::Cancelled }
    }

    fn ended<T>(mut self, answer: Result<T, Status>) -> Result<T, Status> {
        self.code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        answer
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let code = match self.code {
            Code::Cancelled => "Canceled".to_owned(),
            Code::Ok => "OK".to_owned(),
            code => format!("{code:?}"),
        };
        for row in [&table::PODS_ASKED, self.row] {
            self.counts.count(row, &[VERSION, &code]);
        }
    }
}

#[tonic::async_trait]
impl PodsService for Calls {
    type WatchPodsStream = BoxStream<wire::WatchPodsEvent>;

    async fn watch_pods(
        &self,
        _: Request<wire::WatchPodsRequest>,
    ) -> Result<Response<Self::WatchPodsStream>, Status> {
        let counted = Counted::new(&self.shared, &table::PODS_WATCH);
        // Whatever happens while the first ones are told is told after them.
        let watching = self.shared.watched.0.subscribe();
        let pods = match self.all() {
            Ok(pods) => pods,
            Err(refused) => return counted.ended(Err(refused)),
        };
        let first = pods.into_iter().map(|pod| event(EventType::Added, pod));
        let first = first.chain([event(EventType::InitialSyncComplete, Vec::new())]).map(Ok);
        let then = stream::unfold(Some((watching, counted)), async |state| {
            let (mut watching, counted) = state?;
            let told = match watching.recv().await {
                Ok((kind, pod)) => encode(&pod).map(|pod| event(kind, pod)),
                Err(RecvError::Lagged(dropped)) => {
                    counted.counts.add(&table::PODS_DROPPED, &[], dropped as f64);
                    Err(Status::resource_exhausted("watch client channel closed"))
                }
                Err(RecvError::Closed) => return None,
            };
            match told {
                Ok(event) => Some((Ok(event), Some((watching, counted)))),
                Err(error) => Some((counted.ended(Err(error)), None)),
            }
        });
        let shutdown = self.shared.tasks.shutdown().clone();
        let end = async move { shutdown.wait().await };
        Ok(Response::new(Box::pin(stream::iter(first).chain(then).take_until(end))))
    }

    async fn list_pods(
        &self,
        _: Request<wire::ListPodsRequest>,
    ) -> Result<Response<wire::ListPodsResponse>, Status> {
        let pods = Counted::new(&self.shared, &table::PODS_LIST).ended(self.all())?;
        Ok(Response::new(wire::ListPodsResponse { pods }))
    }

    async fn get_pod(
        &self,
        request: Request<wire::GetPodRequest>,
    ) -> Result<Response<wire::GetPodResponse>, Status> {
        let found = self.one(&request.into_inner().pod_uid);
        let pod = Counted::new(&self.shared, &table::PODS_GET).ended(found)?;
        Ok(Response::new(wire::GetPodResponse { pod }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::spec::PodExt;

    fn pod(status: serde_json::Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "1", "labels": {"a": "b"}});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    fn decoded(bytes: &[u8]) -> serde_json::Value {
        let kind = schema::builtin().kind("", "v1", "Pod").unwrap();
        schema::serde::from_protobuf(&kind.ty, bytes).unwrap()
    }

    #[test]
    fn a_pod_is_readable_as_the_api_encodes_it() {
        let decoded = decoded(&encode(&pod(json!({"phase": "Running", "podIP": "10.0.0.1"}))).unwrap());
        assert_eq!(decoded["metadata"]["labels"]["a"], "b");
        assert_eq!(decoded["status"]["podIP"], "10.0.0.1");
    }

    #[test]
    fn what_was_ready_before_this_kubelet_is_not_yet() {
        let ready = json!({"type": "Ready", "status": "True"});
        let mut status = pod(json!({"phase": "Running", "conditions": [ready]})).status.unwrap();
        unverified(&mut status);
        let conditions = status.conditions.unwrap();
        assert_eq!((conditions[0].status.as_str(), status.phase.as_deref()), ("False", Some("Running")));
        let mut status = PodStatus::default();
        unverified(&mut status);
        assert_eq!(status.phase.as_deref(), Some("Pending"));
    }

    #[tokio::test]
    async fn who_watches_is_told_in_order_and_who_sleeps_is_told_that() {
        let watched = Watched::default();
        let pod = pod(json!({}));
        watched.changed(&pod, &PodStatus::default(), true);
        let mut watching = watched.0.subscribe();
        watched.changed(&pod, &PodStatus::default(), false);
        watched.deleted(&pod);
        assert_eq!(watching.recv().await.unwrap().0, EventType::Modified, "nothing of what was before");
        let (kind, gone) = watching.recv().await.unwrap();
        assert_eq!((kind, gone.name(), gone.metadata.labels.is_none()), (EventType::Deleted, "p", true));
        for _ in 0..=BEHIND * 2 {
            watched.deleted(&pod);
        }
        assert!(matches!(watching.recv().await, Err(RecvError::Lagged(_))));
    }
}
