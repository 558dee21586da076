//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`), as a probe asks it: in the clear.

use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::check::Answer;

/// Whose health is asked for.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// How it is: 0 unknown, 1 serving, 2 not serving, 3 no such service.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// How long after a failed try to connect the next one is made, as Go's library has it.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks once.
pub async fn ask(host: &str, port: i32, service: &str, limit: Duration) -> Answer {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let endpoint = Endpoint::try_from(format!("http://{authority}"))
        .and_then(|endpoint| endpoint.user_agent("kube-probe/1.37"));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => return Answer::unknown(error.to_string()),
    };
    let deadline = Instant::now() + limit;
    let Ok(client) = timeout_at(deadline, connect(&endpoint)).await else {
        return Answer::Failure(format!(
            "timeout: failed to connect service {authority:?} within {limit:?}: context deadline exceeded"
        ));
    };
    match timeout_at(deadline, check(client, service)).await {
        Ok(answer) => answer,
        Err(_) => Answer::Failure(format!("timeout: health rpc did not complete within {limit:?}")),
    }
}

/// Who is not there yet may come while there is time.
async fn connect(endpoint: &Endpoint) -> Grpc<Channel> {
    loop {
        if let Ok(channel) = endpoint.connect().await {
            let mut client = Grpc::new(channel);
            if client.ready().await.is_ok() {
                return client;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn check(mut client: Grpc<Channel>, service: &str) -> Answer {
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    match client.unary(request, path, codec).await.map(|answer| answer.into_inner().status) {
        Ok(SERVING) => Answer::Success,
        Ok(status) => {
            let name = match status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            Answer::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Err(status) if status.code() == Code::Unimplemented => Answer::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => Answer::Failure(format!(
            "error: health rpc probe failed: rpc error: code = {:?} desc = {}",
            status.code(),
            status.message()
        )),
    }
}
