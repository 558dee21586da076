use std::sync::Arc;

use store::Store;
use store::etcd::{Etcd, EtcdOptions};
use store::testing::{EtcdServer, contract};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(crate::open(dir.path()));
    contract(|| async { Arc::clone(&store) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd() {
    let server = EtcdServer::start().await;
    let etcd = Etcd::connect(&server.endpoints(), None, EtcdOptions::default()).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(etcd);
    contract(|| async { Arc::clone(&store) }).await;
}
