//! What a kubelet speaks with its neighbours on the node: the Container Runtime Interface, version 1, with a client;
//! device plugins and how any plugin registers; drivers of dynamic resources; and the services that tell who has
//! which resources, and which pods there are.
//!
//! `proto/runtime.proto` states the messages of `k8s.io/cri-api` v0.37, the others those of `k8s.io/kubelet`. The
//! crate knows neither a kubelet nor a runtime: it only connects the two over a unix socket.

mod client;
mod lenient;
mod reach;
mod reference;

pub use client::{ConnectError, ImageClient, RuntimeClient, channel, connect, later};
pub use lenient::{Lenient, incoming};
pub use reach::reach;
pub use reference::{Reference, ReferenceError};

macro_rules! generated {
    ($(#[doc = $doc:literal] $name:ident = $package:literal;)*) => {$(
        #[doc = $doc]
        #[expect(
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            clippy::doc_markdown,
            reason = "generated code"
        )]
        pub mod $name {
            tonic::include_proto!($package);
        }
    )*};
}

generated! {
    /// The messages and services of `runtime.v1`.
    v1 = "runtime/runtime.v1";
    /// Device plugins (`v1beta1`).
    device_plugin = "deviceplugin/v1beta1";
    /// How a plugin tells what it is (`pluginregistration.v1`).
    registration = "pluginregistration/pluginregistration";
    /// Who has which resources of the node (`podresources.v1`).
    pod_resources = "podresources/v1";
    /// Who has which devices, as it was asked before (`podresources.v1alpha1`).
    pod_resources_v1alpha1 = "podresources_v1alpha1/v1alpha1";
    /// Drivers of dynamic resources (`dra.v1`).
    dra_v1 = "dra_v1/k8s.io.kubelet.pkg.apis.dra.v1";
    /// Drivers of dynamic resources as they were before (`dra.v1beta1`).
    dra_v1beta1 = "dra_v1beta1/k8s.io.kubelet.pkg.apis.dra.v1beta1";
    /// How devices of drivers are (`dra-health.v1alpha1`).
    dra_health = "drahealth/v1alpha1";
    /// The pods of a node (`pods.v1alpha1`).
    pods = "pods/v1alpha1";
}
