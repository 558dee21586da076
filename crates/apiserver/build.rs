//! Takes the descriptions of types and fields, which the catalogue lacks, out of the ecosystem's own types.
//!
//! Each type is a line `T name`, then `D description`, then `F field description` for each field; a line break in
//! a description is written `\n`. The whole is compressed: it is read only when somebody asks for OpenAPI.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by environment variables")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    collect(&mut generator);
    let mut text = String::new();
    for (name, schema) in generator.take_definitions(false) {
        writeln!(text, "T {name}")?;
        if let Some(description) = schema.get("description").and_then(|text| text.as_str()) {
            writeln!(text, "D {}", description.replace('\n', "\\n"))?;
        }
        let properties = schema.get("properties").and_then(|properties| properties.as_object());
        for (field, property) in properties.into_iter().flatten() {
            if let Some(description) = property.get("description").and_then(|text| text.as_str()) {
                writeln!(text, "F {field} {}", description.replace('\n', "\\n"))?;
            }
        }
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    let file = std::fs::File::create(out.join("descriptions"))?;
    let mut encoder = DeflateEncoder::new(file, Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()?;
    Ok(())
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Every kind; what it is made of comes with it.
fn collect(generator: &mut SchemaGenerator) {
    const KINDS: &[fn(&mut SchemaGenerator)] = &[
        of::<api::admissionregistration::v1::MutatingAdmissionPolicy>,
        of::<api::admissionregistration::v1::MutatingAdmissionPolicyBinding>,
        of::<api::admissionregistration::v1::MutatingWebhookConfiguration>,
        of::<api::admissionregistration::v1::ValidatingAdmissionPolicy>,
        of::<api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>,
        of::<api::admissionregistration::v1::ValidatingWebhookConfiguration>,
        of::<api::admissionregistration::v1alpha1::MutatingAdmissionPolicy>,
        of::<api::admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding>,
        of::<api::admissionregistration::v1beta1::MutatingAdmissionPolicy>,
        of::<api::admissionregistration::v1beta1::MutatingAdmissionPolicyBinding>,
        of::<api::apiserverinternal::v1alpha1::StorageVersion>,
        of::<api::apps::v1::ControllerRevision>,
        of::<api::apps::v1::DaemonSet>,
        of::<api::apps::v1::Deployment>,
        of::<api::apps::v1::ReplicaSet>,
        of::<api::apps::v1::StatefulSet>,
        of::<api::authentication::v1::SelfSubjectReview>,
        of::<api::authentication::v1::TokenRequest>,
        of::<api::authentication::v1::TokenReview>,
        of::<api::authorization::v1::LocalSubjectAccessReview>,
        of::<api::authorization::v1::SelfSubjectAccessReview>,
        of::<api::authorization::v1::SelfSubjectRulesReview>,
        of::<api::authorization::v1::SubjectAccessReview>,
        of::<api::autoscaling::v1::HorizontalPodAutoscaler>,
        of::<api::autoscaling::v1::Scale>,
        of::<api::autoscaling::v2::HorizontalPodAutoscaler>,
        of::<api::batch::v1::CronJob>,
        of::<api::batch::v1::Job>,
        of::<api::certificates::v1::CertificateSigningRequest>,
        of::<api::certificates::v1::ClusterTrustBundle>,
        of::<api::certificates::v1::PodCertificateRequest>,
        of::<api::certificates::v1beta1::ClusterTrustBundle>,
        of::<api::certificates::v1beta1::PodCertificateRequest>,
        of::<api::coordination::v1::Lease>,
        of::<api::coordination::v1alpha2::LeaseCandidate>,
        of::<api::coordination::v1beta1::LeaseCandidate>,
        of::<api::core::v1::Binding>,
        of::<api::core::v1::ComponentStatus>,
        of::<api::core::v1::ConfigMap>,
        of::<api::core::v1::Endpoints>,
        of::<api::core::v1::Event>,
        of::<api::core::v1::LimitRange>,
        of::<api::core::v1::Namespace>,
        of::<api::core::v1::Node>,
        of::<api::core::v1::PersistentVolume>,
        of::<api::core::v1::PersistentVolumeClaim>,
        of::<api::core::v1::Pod>,
        of::<api::core::v1::PodTemplate>,
        of::<api::core::v1::ReplicationController>,
        of::<api::core::v1::ResourceQuota>,
        of::<api::core::v1::Secret>,
        of::<api::core::v1::Service>,
        of::<api::core::v1::ServiceAccount>,
        of::<api::discovery::v1::EndpointSlice>,
        of::<api::events::v1::Event>,
        of::<api::flowcontrol::v1::FlowSchema>,
        of::<api::flowcontrol::v1::PriorityLevelConfiguration>,
        of::<api::lifecycle::v1alpha1::EvictionRequest>,
        of::<api::networking::v1::IPAddress>,
        of::<api::networking::v1::Ingress>,
        of::<api::networking::v1::IngressClass>,
        of::<api::networking::v1::NetworkPolicy>,
        of::<api::networking::v1::ServiceCIDR>,
        of::<api::node::v1::RuntimeClass>,
        of::<api::policy::v1::Eviction>,
        of::<api::policy::v1::PodDisruptionBudget>,
        of::<api::rbac::v1::ClusterRole>,
        of::<api::rbac::v1::ClusterRoleBinding>,
        of::<api::rbac::v1::Role>,
        of::<api::rbac::v1::RoleBinding>,
        of::<api::resource::v1::DeviceClass>,
        of::<api::resource::v1::DeviceTaintRule>,
        of::<api::resource::v1::ResourceClaim>,
        of::<api::resource::v1::ResourceClaimTemplate>,
        of::<api::resource::v1::ResourceSlice>,
        of::<api::resource::v1alpha3::DeviceTaintRule>,
        of::<api::resource::v1alpha3::ResourcePoolStatusRequest>,
        of::<api::resource::v1beta1::DeviceClass>,
        of::<api::resource::v1beta1::ResourceClaim>,
        of::<api::resource::v1beta1::ResourceClaimTemplate>,
        of::<api::resource::v1beta1::ResourceSlice>,
        of::<api::resource::v1beta2::DeviceClass>,
        of::<api::resource::v1beta2::DeviceTaintRule>,
        of::<api::resource::v1beta2::ResourceClaim>,
        of::<api::resource::v1beta2::ResourceClaimTemplate>,
        of::<api::resource::v1beta2::ResourceSlice>,
        of::<api::scheduling::v1::PriorityClass>,
        of::<api::scheduling::v1alpha3::CompositePodGroup>,
        of::<api::scheduling::v1alpha3::PodGroup>,
        of::<api::scheduling::v1alpha3::Workload>,
        of::<api::scheduling::v1beta1::PodGroup>,
        of::<api::scheduling::v1beta1::Workload>,
        of::<api::storage::v1::CSIDriver>,
        of::<api::storage::v1::CSINode>,
        of::<api::storage::v1::CSIStorageCapacity>,
        of::<api::storage::v1::StorageClass>,
        of::<api::storage::v1::VolumeAttachment>,
        of::<api::storage::v1::VolumeAttributesClass>,
        of::<api::storagemigration::v1::StorageVersionMigration>,
        of::<api::storagemigration::v1beta1::StorageVersionMigration>,
        of::<apimachinery::pkg::apis::meta::v1::APIGroup>,
        of::<apimachinery::pkg::apis::meta::v1::APIVersions>,
        of::<apimachinery::pkg::apis::meta::v1::Status>,
        of::<apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>,
        of::<kube_aggregator::pkg::apis::apiregistration::v1::APIService>,
    ];
    KINDS.iter().for_each(|kind| kind(generator));
}
