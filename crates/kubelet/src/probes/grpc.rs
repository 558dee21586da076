//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`), as a probe asks it: in the clear.

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
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

/// Asks once.
pub async fn ask(host: &str, port: i32, service: &str, limit: Duration) -> Answer {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(limit, check(&authority, service)).await {
        Ok(answer) => answer,
        Err(_) => {
            Answer::Failure(format!("timeout: failed to connect service {authority:?} within {limit:?}"))
        }
    }
}

async fn check(authority: &str, service: &str) -> Answer {
    let endpoint = match Endpoint::try_from(format!("http://{authority}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let channel = match endpoint.user_agent("kube-probe/1.37") {
        Ok(endpoint) => endpoint.connect().await,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let Ok(channel) = channel else {
        return Answer::Failure(format!("error: failed to connect service {authority:?}"));
    };
    let mut client = Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Answer::Failure(format!("error: failed to connect service {authority:?}: {error}"));
    }
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
        Err(status) => Answer::Failure(format!("error: health rpc probe failed: {}", status.message())),
    }
}
