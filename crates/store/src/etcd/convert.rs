//! etcd's answers and errors in the store's terms.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use etcd_client::{Error, ResponseHeader};

use crate::{KeyValue, Revision};

/// Why a call got no result.
#[derive(Debug)]
pub(super) enum Refusal {
    Compacted,
    Future,
    NoLease,
    /// It never reached etcd.
    NotSent(String),
    /// It may have reached etcd, or not.
    Lost(String),
    /// etcd said no.
    Other(String),
}

pub(super) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(refusal(&error)),
        Err(_) => Err(Refusal::Lost(format!("no answer within {} s", timeout.as_secs_f32()))),
    }
}

pub(super) fn refusal(error: &Error) -> Refusal {
    let Error::GRpcStatus(status) = error else { return Refusal::Lost(error.to_string()) };
    let message = status.message();
    if message.contains("required revision has been compacted") {
        Refusal::Compacted
    } else if message.contains("required revision is a future revision") {
        Refusal::Future
    } else if message.contains("requested lease not found") {
        Refusal::NoLease
    } else if could_not_connect(status) {
        Refusal::NotSent(message.to_owned())
    } else {
        use tonic::Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
        match status.code() {
            Unavailable | DeadlineExceeded | Cancelled | Unknown | Internal => {
                Refusal::Lost(message.to_owned())
            }
            _ => Refusal::Other(message.to_owned()),
        }
    }
}

fn could_not_connect(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
            return matches!(
                error.kind(),
                ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable
            );
        }
        source = error.source();
    }
    false
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| unsigned(header.revision()))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    let (create_revision, mod_revision) = (unsigned(kv.create_revision()), unsigned(kv.mod_revision()));
    let version = unsigned(kv.version());
    let (key, value) = kv.into_key_value();
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_is_told_apart_from_what_was_lost() {
        let status = |code, message: &str| Error::GRpcStatus(tonic::Status::new(code, message.to_owned()));
        let cases = [
            (
                status(tonic::Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
                "Compacted",
            ),
            (
                status(tonic::Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
                "Future",
            ),
            (status(tonic::Code::NotFound, "etcdserver: requested lease not found"), "NoLease"),
            (status(tonic::Code::Unavailable, "etcdserver: request timed out"), "Lost"),
            (status(tonic::Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), "Other"),
        ];
        for (error, expected) in cases {
            let found = format!("{:?}", refusal(&error));
            assert!(found.starts_with(expected), "{error}: {found}");
        }
        let mut refused =
            tonic::Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(matches!(refusal(&Error::GRpcStatus(refused.clone())), Refusal::NotSent(_)));
        refused = tonic::Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(matches!(refusal(&Error::GRpcStatus(refused)), Refusal::Lost(_)));
    }
}
