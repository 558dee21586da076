//! The receive loops, and forwarding of what is not ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use client::{Informer, Reflector, Resource};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::answer::{Answer, Ask, Source, answer};
use crate::error::{Doing, Result};

/// Seconds that an answer may be kept, as CoreDNS's default.
const TTL: u32 = 30;
/// How long another server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many names may lead to one another.
const MAX_NAMES: usize = 8;
/// The largest answer over UDP; a longer one is asked for again over TCP.
const MAX_UDP: usize = 1232;

/// What a DNS server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The cluster's domain: `cluster.local`.
    pub domain: String,
    /// Who is asked for other names.
    pub upstream: Vec<IpAddr>,
}

struct Server {
    config: Config,
    services: Reflector<Service>,
    slices: Reflector<EndpointSlice>,
}

impl Source for Server {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&format!("{namespace}/{name}"))
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        !self.services.in_namespace(namespace).is_empty()
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        let mut slices = self.slices.in_namespace(namespace);
        slices.retain(|slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get("kubernetes.io/service-name")).is_some_and(|of| of == service)
        });
        slices
    }

    fn by_ip(&self, ip: Ipv4Addr) -> Option<(String, String)> {
        let text = ip.to_string();
        self.services.list().into_iter().find_map(|(key, service)| {
            let is = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some(&text);
            let (namespace, name) = key.split_once('/')?;
            is.then(|| (namespace.to_owned(), name.to_owned()))
        })
    }
}

/// Answers until the group stops.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(config: Config, client: kube::Client, tasks: &TaskGroup) -> Result<()> {
    let services = Informer::new(client.clone(), Resource::all("", "v1", "Service", "services")).start(tasks);
    let resource = Resource::all("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    let slices = Informer::new(client, resource).start(tasks);
    let listen = config.listen;
    let udp = Arc::new(UdpSocket::bind(listen).await.doing(|| format!("listening on {listen}/udp"))?);
    let tcp = TcpListener::bind(listen).await.doing(|| format!("listening on {listen}/tcp"))?;
    let server = Arc::new(Server { config, services, slices });
    let for_tcp = server.clone();
    tasks.spawn(async move { accept(for_tcp, tcp).await });
    let mut buffer = vec![0u8; 4096];
    loop {
        let (length, from) = match udp.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier answer that could not be delivered, most likely.
                tracing::debug!(%error, "receiving a question");
                continue;
            }
        };
        let question = buffer.get(..length).unwrap_or_default();
        match server.local(question, MAX_UDP) {
            Reply::Bytes(bytes) => {
                let _ = udp.send_to(&bytes, from).await;
            }
            Reply::Forward => {
                let (server, udp, question) = (server.clone(), udp.clone(), question.to_vec());
                tokio::spawn(async move {
                    if let Some(bytes) = server.forward(&question, false).await {
                        let _ = udp.send_to(&bytes, from).await;
                    }
                });
            }
            Reply::Follow(reply, name) => {
                let (server, udp) = (server.clone(), udp.clone());
                tokio::spawn(async move {
                    if let Some(bytes) = server.follow(*reply, name, false).await {
                        let _ = udp.send_to(&bytes, from).await;
                    }
                });
            }
            Reply::Nothing => {}
        }
    }
}

enum Reply {
    Bytes(Vec<u8>),
    /// Somebody else knows.
    Forward,
    /// Somebody else knows the name that this answer ends in.
    Follow(Box<Message>, Name),
    Nothing,
}

async fn accept(server: Arc<Server>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let server = server.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(10), serve_stream(&server, stream)).await;
        });
    }
}

async fn serve_stream(server: &Server, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        let answer = match server.local(&question, usize::from(u16::MAX)) {
            Reply::Bytes(bytes) => bytes,
            // No answer at all: the connection ends, as it does when a server fails.
            Reply::Forward => match server.forward(&question, true).await {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
            Reply::Follow(reply, name) => match server.follow(*reply, name, true).await {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
            Reply::Nothing => return Ok(()),
        };
        let length = u16::try_from(answer.len()).unwrap_or_default();
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

impl Server {
    fn local(&self, bytes: &[u8], limit: usize) -> Reply {
        let Ok(question) = Message::from_vec(bytes) else { return Reply::Nothing };
        if question.metadata.message_type != MessageType::Query {
            return Reply::Nothing;
        }
        let Some(query) = question.queries.first() else { return Reply::Nothing };
        let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
        let ask = match query.query_type() {
            RecordType::A => Ask::A,
            RecordType::SRV => Ask::Srv,
            RecordType::PTR => Ask::Ptr,
            _ => Ask::Other,
        };
        let mut found = answer(self, &self.config.domain, &name, ask);
        if found == Answer::Foreign {
            return Reply::Forward;
        }
        let mut reply = Message::response(question.metadata.id, OpCode::Query);
        reply.metadata.recursion_desired = question.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = true;
        reply.add_query(query.clone());
        let mut at = query.name().clone();
        // Resolvers of programs follow no other name: the answer must hold what it leads to.
        while let (Answer::Cname(next), true) = (&found, query.query_type() != RecordType::CNAME) {
            if reply.answers.len() >= MAX_NAMES {
                break;
            }
            let next = next.clone();
            reply.answers.extend(records(&at, found));
            at = absolute(&next);
            found = answer(self, &self.config.domain, &next, ask);
        }
        if found == Answer::Foreign {
            return Reply::Follow(Box::new(reply), at);
        }
        let code = if found == Answer::NxDomain { ResponseCode::NXDomain } else { ResponseCode::NoError };
        reply.metadata.response_code = code;
        reply.answers.extend(records(&at, found));
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= limit => Reply::Bytes(bytes),
            Ok(_) => {
                reply.metadata.truncation = true;
                reply.answers.clear();
                reply.to_vec().map_or(Reply::Nothing, Reply::Bytes)
            }
            Err(error) => {
                tracing::warn!(%name, %error, "an answer could not be written");
                Reply::Nothing
            }
        }
    }

    /// Completes an answer by what others know of the name that it ends in.
    async fn follow(&self, mut reply: Message, name: Name, stream: bool) -> Option<Vec<u8>> {
        let kind = reply.queries.first()?.query_type();
        let mut question = Message::new(reply.metadata.id, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name, kind));
        let answer = self.forward(&question.to_vec().ok()?, stream).await?;
        let answer = Message::from_vec(&answer).ok()?;
        reply.metadata.response_code = answer.metadata.response_code;
        reply.metadata.truncation = answer.metadata.truncation;
        reply.answers.extend(answer.answers);
        reply.to_vec().ok()
    }

    /// Asks the next server, each in turn until one answers; nobody answering is SERVFAIL.
    async fn forward(&self, question: &[u8], stream: bool) -> Option<Vec<u8>> {
        for server in &self.config.upstream {
            let asked = tokio::time::timeout(PATIENCE, ask_other(*server, question, stream)).await;
            if let Ok(Ok(answer)) = asked {
                return Some(answer);
            }
        }
        let question = Message::from_vec(question).ok()?;
        let mut reply = Message::response(question.metadata.id, OpCode::Query);
        reply.metadata.response_code = ResponseCode::ServFail;
        reply.queries = question.queries;
        reply.to_vec().ok()
    }
}

async fn ask_other(server: IpAddr, question: &[u8], stream: bool) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::new(server, 53);
    if stream {
        let mut connection = TcpStream::connect(address).await?;
        let length = u16::try_from(question.len()).unwrap_or_default();
        connection.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
        let length = connection.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        connection.read_exact(&mut answer).await?;
        return Ok(answer);
    }
    // A socket of its own for each question: its port is as hard to guess as its number.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(address).await?;
    socket.send(question).await?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

fn absolute(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap_or_else(|_| Name::root())
}

fn records(name: &Name, answer: Answer) -> Vec<Record> {
    let record = |data: RData| Record::from_rdata(name.clone(), TTL, data);
    let target = absolute;
    match answer {
        Answer::A(ips) => ips.into_iter().map(|ip| record(RData::A(A(ip)))).collect(),
        Answer::Cname(other) => vec![record(RData::CNAME(CNAME(target(&other))))],
        Answer::Ptr(other) => vec![record(RData::PTR(PTR(target(&other))))],
        Answer::Srv(ports) => {
            let weight = u16::try_from(100 / ports.len().max(1)).unwrap_or(1);
            ports
                .into_iter()
                .map(|(port, host)| record(RData::SRV(SRV::new(0, weight, port, target(&host)))))
                .collect()
        }
        Answer::NoData | Answer::NxDomain | Answer::Foreign => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
