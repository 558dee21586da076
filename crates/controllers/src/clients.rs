//! Who the controllers are: each writes as its own service account in `kube-system`, as upstream's do with
//! `--use-service-account-credentials`.

use kube::Client;

/// One client for each identity.
#[derive(Clone)]
pub struct Clients {
    /// `system:kube-controller-manager`: informers, events and leases.
    pub manager: Client,
    /// `deployment-controller`
    pub deployments: Client,
    /// `replicaset-controller`
    pub replica_sets: Client,
    /// `endpointslice-controller`
    pub endpoint_slices: Client,
    /// `endpoint-controller`
    pub endpoints: Client,
    /// `endpointslicemirroring-controller`
    pub mirrored_slices: Client,
    /// `namespace-controller`
    pub namespaces: Client,
    /// `service-account-controller`
    pub service_accounts: Client,
    /// `root-ca-cert-publisher`
    pub root_ca: Client,
    /// `node-controller`
    pub nodes: Client,
    /// `generic-garbage-collector`
    pub garbage: Client,
    /// `certificate-controller`
    pub certificates: Client,
    /// `pod-garbage-collector`
    pub pod_gc: Client,
    /// `disruption-controller`
    pub disruption: Client,
    /// `ephemeral-volume-controller`
    pub ephemeral_volumes: Client,
    /// `persistent-volume-binder`
    pub persistent_volumes: Client,
    /// `pvc-protection-controller`
    pub claim_protection: Client,
    /// `pv-protection-controller`
    pub volume_protection: Client,
    /// `resource-claim-controller`
    pub resource_claims: Client,
    /// `device-taint-eviction-controller`
    pub device_taints: Client,
    /// `podcertificaterequestcleaner`
    pub pod_certificate_requests: Client,
    /// `kubelet-serving-approver`
    pub kubelet_serving: Client,
}

impl Clients {
    /// Makes a client for each; `account` is given the name of a service account in `kube-system`.
    ///
    /// # Errors
    /// Those of `account`.
    pub fn new<E>(manager: Client, mut account: impl FnMut(&str) -> Result<Client, E>) -> Result<Self, E> {
        Ok(Self {
            manager,
            deployments: account("deployment-controller")?,
            replica_sets: account("replicaset-controller")?,
            endpoint_slices: account("endpointslice-controller")?,
            endpoints: account("endpoint-controller")?,
            mirrored_slices: account("endpointslicemirroring-controller")?,
            namespaces: account("namespace-controller")?,
            service_accounts: account("service-account-controller")?,
            root_ca: account("root-ca-cert-publisher")?,
            nodes: account("node-controller")?,
            garbage: account("generic-garbage-collector")?,
            certificates: account("certificate-controller")?,
            pod_gc: account("pod-garbage-collector")?,
            disruption: account("disruption-controller")?,
            ephemeral_volumes: account("ephemeral-volume-controller")?,
            persistent_volumes: account("persistent-volume-binder")?,
            claim_protection: account("pvc-protection-controller")?,
            volume_protection: account("pv-protection-controller")?,
            resource_claims: account("resource-claim-controller")?,
            device_taints: account("device-taint-eviction-controller")?,
            pod_certificate_requests: account("podcertificaterequestcleaner")?,
            kubelet_serving: account("kubelet-serving-approver")?,
        })
    }

    /// Everything as one user, who must be allowed all of it.
    pub fn single(client: &Client) -> Self {
        let made = Self::new(client.clone(), |_| Ok::<_, std::convert::Infallible>(client.clone()));
        match made {
            Ok(clients) => clients,
            Err(never) => match never {},
        }
    }
}
