//! What `healthCheckNodePort` of a Service is for: whoever balances load over nodes is told how many of the Service's
//! endpoints a node has, and leaves out those that have none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::health::{Answer, Told, serve};
use super::plan::{Local, by_service, is_ours};

/// What is told of one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many endpoints this node has that are ready.
    pub endpoints: usize,
}

/// The ports of all Services that have one. Pure.
pub fn plan<'o>(
    services: impl Iterator<Item = &'o Service>,
    slices: impl Iterator<Item = &'o EndpointSlice>,
    local: &Local,
) -> BTreeMap<u16, Check> {
    let by_service = by_service(slices);
    let mut checks = BTreeMap::new();
    for service in services.filter(|service| is_ours(service.metadata.labels.as_ref())) {
        let port = service.spec.as_ref().and_then(|spec| spec.health_check_node_port);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) else {
            continue;
        };
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let name = service.metadata.name.clone().unwrap_or_default();
        let slices = by_service.get(&(namespace.clone(), name.clone()));
        let endpoints = slices.into_iter().flatten().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = endpoints.filter(|endpoint| {
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
            endpoint.node_name.as_deref() == Some(&local.node) && is_ready.unwrap_or(true)
        });
        let addresses: BTreeSet<_> = ready.filter_map(|endpoint| endpoint.addresses.first()).collect();
        let endpoints = addresses.len();
        checks.insert(port, Check { namespace, name, endpoints });
    }
    checks
}

/// The ports at which somebody is told. They close when this goes.
#[derive(Debug, Default)]
pub struct Checks(BTreeMap<u16, Served>);

#[derive(Debug)]
struct Served {
    check: watch::Sender<Check>,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    /// Opens, closes and changes what differs.
    pub fn apply(&mut self, wanted: BTreeMap<u16, Check>) {
        self.0.retain(|port, _| wanted.contains_key(port));
        for (port, check) in wanted {
            match self.0.get(&port) {
                Some(served) => {
                    served.check.send_replace(check);
                }
                None => {
                    self.0.insert(port, Served::start(port, check));
                }
            }
        }
    }
}

impl Served {
    fn start(port: u16, check: Check) -> Self {
        let (sender, receiver) = watch::channel(check);
        let answer: Answer = Arc::new(move |_| Some(told(&receiver.borrow())));
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self { check: sender, task: tokio::spawn(serve(address, answer)).abort_handle() }
    }
}

fn told(check: &Check) -> Told {
    let Check { namespace, name, endpoints } = check;
    let service = serde_json::json!({"namespace": namespace, "name": name});
    let text = serde_json::json!({
        "service": service, "localEndpoints": endpoints, "serviceProxyHealthy": true,
    });
    Told { is_well: *endpoints > 0, text: text.to_string(), weight: Some(*endpoints) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::services::plan::tests::{local, service, slice_of};

    #[test]
    fn endpoints_of_this_node_that_are_ready_are_counted_once() {
        let service = service(serde_json::json!({"clusterIP": "10.96.0.9", "healthCheckNodePort": 32000,
            "ports": [{"port": 80}]}));
        let ending = serde_json::json!({"ready": false, "serving": true, "terminating": true});
        let slice = slice_of(
            "TCP",
            serde_json::json!([
                {"addresses": ["10.244.0.2"], "nodeName": "a"},
                {"addresses": ["10.244.0.3"], "nodeName": "a", "conditions": ending},
                {"addresses": ["10.244.1.2"], "nodeName": "b"},
            ]),
        );
        let checks = plan([&service].into_iter(), [&slice, &slice].into_iter(), &local());
        let wanted = Check { namespace: "n".to_owned(), name: "web".to_owned(), endpoints: 1 };
        assert_eq!(checks, BTreeMap::from([(32000, wanted)]));
    }

    async fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn until(port: u16, is_right: impl Fn(Option<&str>) -> bool) {
        let look = async {
            while !is_right(ask(port).await.as_deref()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), look).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_opens_tells_and_closes() {
        let port =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let check = |endpoints| {
            let check = Check { namespace: "n".to_owned(), name: "web".to_owned(), endpoints };
            BTreeMap::from([(port, check)])
        };
        let mut checks = Checks::default();
        checks.apply(check(2));
        until(port, |answer| {
            answer
                .is_some_and(|text| text.starts_with("HTTP/1.1 200") && text.contains("\"localEndpoints\":2"))
        })
        .await;
        checks.apply(check(0));
        until(port, |answer| answer.is_some_and(|text| text.starts_with("HTTP/1.1 503"))).await;
        checks.apply(BTreeMap::new());
        until(port, |answer| answer.is_none()).await;
    }
}
