//! Follows Services and endpoint slices and keeps the table.

use std::time::Duration;

use base::TaskGroup;
use client::{Informer, Resource, WorkQueue};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::apply::Table;
use super::checks::{self, Checks};
use super::plan::{Local, plan};

/// How long the kernel remembers connections in states in which they may be silent for long, in seconds: kube-proxy's
/// `tcpEstablishedTimeout` and `tcpCloseWaitTimeout`.
const PATIENCE: [(&str, &str); 2] = [("established", "86400"), ("close_wait", "3600")];

/// Keeps the Services of this node until the group stops. The calling process is in the node's namespace.
pub async fn run(name: String, cluster: (u32, u8), local: Local, client: kube::Client, tasks: &TaskGroup) {
    let queue: WorkQueue<()> = WorkQueue::new();
    let mut services: Informer<Service> =
        Informer::new(client.clone(), Resource::all("", "v1", "Service", "services"));
    let changed = queue.clone();
    services.on_change(move |_| changed.add(()));
    let resource = Resource::all("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    let mut slices: Informer<EndpointSlice> = Informer::new(client, resource);
    let changed = queue.clone();
    slices.on_change(move |_| changed.add(()));
    let (services, slices) = (services.start(tasks), slices.start(tasks));
    services.synced().await;
    slices.synced().await;
    let table = parking_lot::Mutex::new(None);
    let checks = parking_lot::Mutex::new(Checks::default());
    queue.add(());
    queue
        .run(1, |()| async {
            let (services, slices) = (services.list(), slices.list());
            let wanted =
                plan(services.iter().map(|(_, one)| &**one), slices.iter().map(|(_, one)| &**one), &local);
            let told = checks::plan(
                services.iter().map(|(_, one)| &**one),
                slices.iter().map(|(_, one)| &**one),
                &local,
            );
            checks.lock().apply(told);
            let mut table = table.lock();
            let table = match &mut *table {
                Some(table) => table,
                none => {
                    set_patience();
                    none.insert(Table::open(&name, cluster)?)
                }
            };
            table.apply(&wanted)?;
            Ok::<Option<Duration>, crate::nft::NftError>(None)
        })
        .await;
}

fn set_patience() {
    for (state, seconds) in PATIENCE {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{state}");
        if let Err(error) = std::fs::write(&path, seconds) {
            tracing::warn!(path, %error, "the kernel's own patience with connections stays");
        }
    }
}
