//! A plugin that is none, at a real socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Shutdown, TaskGroup};
use cri::registration as wire;
use tokio::net::UnixListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use wire::registration_server::{Registration, RegistrationServer};

use super::{Handler, Handlers, follow};

struct Plugin {
    kind: &'static str,
    told: UnboundedSender<String>,
}

#[tonic::async_trait]
impl Registration for Plugin {
    async fn get_info(&self, _: Request<wire::InfoRequest>) -> Result<Response<wire::PluginInfo>, Status> {
        Ok(Response::new(wire::PluginInfo {
            r#type: self.kind.to_owned(),
            name: "a".to_owned(),
            endpoint: "unix:///elsewhere".to_owned(),
            supported_versions: vec!["v1".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<wire::RegistrationStatus>,
    ) -> Result<Response<wire::RegistrationStatusResponse>, Status> {
        let status = status.into_inner();
        self.told.send(format!("{} {}", status.plugin_registered, status.error)).unwrap();
        Ok(Response::new(wire::RegistrationStatusResponse {}))
    }
}

struct Known(UnboundedSender<String>);

#[tonic::async_trait]
impl Handler for Known {
    fn validate(&self, _: &str, versions: &[String]) -> Result<(), String> {
        if versions.contains(&"v1".to_owned()) { Ok(()) } else { Err("too old".to_owned()) }
    }

    async fn register(&self, name: &str, endpoint: &Path, _: &[String]) -> Result<(), String> {
        self.0.send(format!("register {name} {}", endpoint.display())).unwrap();
        Ok(())
    }

    fn deregister(&self, name: &str, _: &Path) {
        self.0.send(format!("deregister {name}")).unwrap();
    }
}

fn serve(path: &Path, kind: &'static str, tasks: &TaskGroup) -> UnboundedReceiver<String> {
    let (told, hears) = unbounded_channel();
    let listener = UnixListener::bind(path).unwrap();
    let plugin = RegistrationServer::new(Plugin { kind, told });
    let server = tonic::transport::Server::builder().add_service(plugin);
    tasks.spawn(async move {
        server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
    });
    hears
}

async fn next(hears: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(10), hears.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn plugins_come_and_go_with_their_sockets() {
    let root = tempfile::tempdir().unwrap();
    let (told, mut handled) = unbounded_channel();
    let tasks = TaskGroup::new(&Shutdown::new());
    let known: Arc<dyn Handler> = Arc::new(Known(told));
    let folder = root.path().join("below");
    std::fs::create_dir(root.path().join("below")).unwrap();
    let mut first = serve(&folder.join("first.sock"), "Known", &tasks);
    tasks.spawn(follow(root.path().to_owned(), Handlers::from([("Known", known)]), tasks.clone()));
    assert_eq!(next(&mut handled).await, "register a /elsewhere", "it was there before");
    assert_eq!(next(&mut first).await, "true ");
    // Another plugin at the same place.
    std::fs::remove_file(folder.join("first.sock")).unwrap();
    assert_eq!(next(&mut handled).await, "deregister a");
    let mut second = serve(&folder.join("first.sock"), "Known", &tasks);
    assert_eq!(next(&mut handled).await, "register a /elsewhere");
    assert_eq!(next(&mut second).await, "true ");
    let path = root.path().join("unknown.sock");
    let mut unknown = serve(&path, "Unknown", &tasks);
    let wanted = format!(
        "false RegisterPlugin error -- no handler registered for plugin type: Unknown at socket {}",
        path.display()
    );
    assert_eq!(next(&mut unknown).await, wanted);
    tasks.stop().await;
}
