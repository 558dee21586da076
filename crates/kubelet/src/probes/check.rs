//! One probe: a command, an HTTP request, a TCP connection, or a call of the gRPC health service
//! (`pkg/kubelet/prober`, `pkg/probe`).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::gates::{Gate, Gates};
use tokio::net::TcpStream;

use super::{grpc, http};
use crate::configuration::duration::shown;
use crate::pods::env::expand;
use crate::pods::spec::port_number;
use crate::runtime::Runtime;

/// The most of an answer that is read and shown, in bytes.
pub const SHOWN: usize = 10 * 1024;

/// Whom to ask.
pub struct Target<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The pod's address.
    pub ip: &'a str,
    pub container: &'a Container,
    /// Which features are on.
    pub gates: Gates,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Success,
    /// It does well enough; what is to be said of it all the same.
    Warning(String),
    Failure(String),
    /// It could not be asked, or its answer not be read: nothing follows of it.
    Error {
        /// `unknown` or `failure`, as upstream names it.
        state: &'static str,
        why: String,
    },
}

impl Answer {
    /// It could not be asked.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Error { state: "unknown", why: why.into() }
    }
}

/// Asks once.
pub async fn probe(runtime: &Runtime, probe: &Probe, target: &Target<'_>, limit: Duration) -> Answer {
    if let Some(exec) = &probe.exec {
        return command(runtime, exec.command.as_deref().unwrap_or_default(), target, limit).await;
    }
    if let Some(action) = &probe.http_get {
        return http::probe(action, target, limit).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(target.ip);
        return match resolve(target.container, &tcp.port) {
            Ok(port) => reach(&authority(host, port), limit).await,
            Err(why) => Answer::unknown(why),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        let secret = grpc.mode.as_deref() == Some("TLS") && target.gates.has(Gate::GrpcContainerProbeTls);
        return grpc::ask((target.ip, grpc.port), &service, secret, limit).await;
    }
    Answer::unknown("missing probe handler")
}

async fn command(runtime: &Runtime, words: &[String], target: &Target<'_>, limit: Duration) -> Answer {
    let variables = target.container.env.as_deref().unwrap_or_default();
    let known = |name: &str| {
        let variable = variables.iter().rev().find(|variable| variable.name == name);
        variable.map(|variable| variable.value.clone().unwrap_or_default())
    };
    let command: Vec<String> = words.iter().map(|word| expand(word, known)).collect();
    let told = command.join(" ");
    match runtime.exec_sync(target.id, command, limit).await {
        Ok(answer) if answer.exit_code == 0 => Answer::Success,
        Ok(answer) => {
            let output = [answer.stdout, answer.stderr].concat();
            let shown = output.get(..output.len().min(SHOWN)).unwrap_or_default();
            Answer::Failure(String::from_utf8_lossy(shown).trim_end().to_owned())
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            Answer::Failure(format!("command timed out: {told:?} timed out after {}", shown(limit)))
        }
        Err(status) => Answer::unknown(status.message()),
    }
}

/// The number of a port, by whatever it is named.
///
/// # Errors
/// When it is none; upstream's words.
pub fn resolve(container: &Container, port: &IntOrString) -> Result<u16, String> {
    port_number(container, port).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("strconv.Atoi: parsing {name:?}: invalid syntax"),
    })
}

/// Whom to connect to, as `HOST:PORT`.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn reach(authority: &str, limit: Duration) -> Answer {
    match tokio::time::timeout(limit, connect(authority)).await {
        Ok(Ok(_stream)) => Answer::Success,
        Ok(Err(why)) => Answer::Failure(why),
        Err(_) => Answer::Failure(format!("dial tcp {authority}: i/o timeout")),
    }
}

/// Connects.
///
/// # Errors
/// In the words of Go's network library.
pub async fn connect(authority: &str) -> Result<TcpStream, String> {
    TcpStream::connect(authority).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
            std::io::ErrorKind::TimedOut => "connection timed out".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {authority}: connect: {why}")
    })
}
