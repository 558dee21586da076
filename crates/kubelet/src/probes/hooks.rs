//! Lifecycle hooks: what runs after a container started and before it stops.

use std::time::Duration;

use k8s_openapi::api::core::v1::{HTTPGetAction, LifecycleHandler, Pod};

pub use super::check::Target;
use super::http::{Asking, Failed, Kind, ask};
use crate::Shared;
use crate::counts::table;
use crate::pods::spec::PodExt;

/// Runs a hook. What went wrong, as a message.
pub async fn run(
    shared: &Shared,
    pod: &Pod,
    hook: &LifecycleHandler,
    target: &Target<'_>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let answer = shared.runtime.exec_sync(target.id, command, limit).await;
        return match answer {
            Ok(answer) if answer.exit_code == 0 => Ok(()),
            Ok(answer) => Err(format!(
                "Exec lifecycle hook ([{shown}]) for Container {:?} failed - error: command exited with {}: {}",
                target.container.name,
                answer.exit_code,
                String::from_utf8_lossy(&answer.stderr).trim_end()
            )),
            Err(status) => Err(status.message().to_owned()),
        };
    }
    if let Some(http) = &hook.http_get {
        let Some(authority) = request(http, target).await? else { return Ok(()) };
        shared.counts.count(&table::HOOK_FALLBACKS, &[]);
        let message = format!(
            "request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded"
        );
        shared.recorder.warning(pod.reference(None), "LifecycleHTTPFallback", message);
        return Ok(());
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
        return Ok(());
    }
    Err("unsupported handler type".to_owned())
}

/// Makes a hook's request; whatever its answer says, it was made. A server that is asked by HTTPS and speaks only HTTP
/// is asked by HTTP, without authorization, and `HOST:PORT` returned.
async fn request(http: &HTTPGetAction, target: &Target<'_>) -> Result<Option<String>, String> {
    let asking = Asking { agent: "kube-lifecycle/1.37", deadline: None, stays: false };
    let Failed { message, authority, kind } = match ask(http, target, &asking).await {
        Ok(_page) => return Ok(None),
        Err(failed) => failed,
    };
    if kind != Kind::Plain {
        return Err(message);
    }
    let mut plain = HTTPGetAction { scheme: Some("HTTP".to_owned()), ..http.clone() };
    plain.http_headers.iter_mut().for_each(|headers| {
        headers.retain(|header| !header.name.eq_ignore_ascii_case("authorization"));
    });
    match ask(&plain, target, &asking).await {
        Ok(_page) => Ok(Some(authority)),
        // The first error says more.
        Err(_failed) => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use k8s_openapi::api::core::v1::{Container, HTTPHeader};
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use kinds::gates::Gates;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that speaks HTTP only and answers with this status; its port, and what was said to it.
    async fn server(status: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let said = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                said.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (port, heard)
    }

    fn action(scheme: &str, port: u16) -> HTTPGetAction {
        let header = |name: &str| HTTPHeader { name: name.to_owned(), value: "secret".to_owned() };
        HTTPGetAction {
            http_headers: Some(vec![header("Authorization"), header("X-Other")]),
            port: IntOrString::Int(i32::from(port)),
            scheme: Some(scheme.to_owned()),
            ..HTTPGetAction::default()
        }
    }

    #[tokio::test]
    async fn whatever_the_answer_says_the_hook_ran() {
        let (port, heard) = server("500 Internal Server Error").await;
        let container = Container::default();
        let target = Target { id: "", ip: "127.0.0.1", container: &container, gates: Gates::default() };
        assert_eq!(request(&action("HTTP", port), &target).await, Ok(None));
        assert!(heard.lock().unwrap().concat().contains("authorization: secret"), "{heard:?}");
    }

    #[tokio::test]
    async fn a_server_without_tls_is_asked_without_and_without_authorization() {
        let (port, heard) = server("200 OK").await;
        let container = Container::default();
        let target = Target { id: "", ip: "127.0.0.1", container: &container, gates: Gates::default() };
        let asked = request(&action("HTTPS", port), &target).await;
        assert_eq!(asked, Ok(Some(format!("127.0.0.1:{port}"))));
        let last = heard.lock().unwrap().last().cloned().unwrap();
        assert!(last.contains("x-other: secret") && !last.contains("authorization"), "{last}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let container = Container::default();
        let target = Target { id: "", ip: "127.0.0.1", container: &container, gates: Gates::default() };
        let error = request(&action("HTTP", closed), &target).await.unwrap_err();
        assert!(error.contains("connection refused"), "{error}");
    }
}
