//! A client around another.

use std::future::Future;

use http::{Request, Response};
use kube::client::Body;

/// A client of the same namespace, each of whose requests goes through `ask` with the one that it is around.
pub fn around<A, F>(client: kube::Client, ask: F) -> kube::Client
where
    F: Fn(kube::Client, Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, kube::Error>> + Send + 'static,
{
    let namespace = client.default_namespace().to_owned();
    kube::Client::new(tower::service_fn(move |request| ask(client.clone(), request)), namespace)
}
