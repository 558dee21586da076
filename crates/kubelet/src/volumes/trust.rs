//! Certificates that clusters trust, by name or by signer (KEP-3257).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Api;
use kube::api::ListParams;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Cause;
use super::content::failed;

/// The certificates of a projection as PEM, each once, in an order that says nothing.
///
/// # Errors
/// When no bundle fits and the projection is not optional, or the API server does not answer.
pub async fn bundle(client: &kube::Client, source: &ClusterTrustBundleProjection) -> Result<Vec<u8>, Cause> {
    let api: Api<ClusterTrustBundle> = Api::all(client.clone());
    let optional = source.optional == Some(true);
    let (found, sought) = match (&source.name, &source.signer_name) {
        (Some(name), _) => (api.get_opt(name).await.map_err(failed)?.into_iter().collect(), name.clone()),
        (None, Some(signer)) => {
            let fields = format!("spec.signerName={signer}");
            let labels = selector(source.label_selector.as_ref());
            let params = ListParams::default().fields(&fields).labels(&labels);
            // Without a selector nothing is selected; an empty one selects all.
            let items = match source.label_selector {
                Some(_) => api.list(&params).await.map_err(failed)?.items,
                None => Vec::new(),
            };
            (items, signer.clone())
        }
        (None, None) => (Vec::new(), String::new()),
    };
    if found.is_empty() && !optional {
        return Err(Cause::Missing { kind: "clustertrustbundle", name: sought });
    }
    let mut certificates = BTreeSet::new();
    for bundle in &found {
        for certificate in CertificateDer::pem_slice_iter(bundle.spec.trust_bundle.as_bytes()).flatten() {
            certificates.insert(certificate.to_vec());
        }
    }
    Ok(certificates.iter().flat_map(|certificate| pem(certificate).into_bytes()).collect())
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let mut terms: Vec<String> =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    for requirement in selector.match_expressions.iter().flatten() {
        let (key, values) = (&requirement.key, requirement.values.clone().unwrap_or_default().join(","));
        terms.push(match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_written_as_the_api_reads_them() {
        let given = serde_json::json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["x", "y"]}, {"key": "d", "operator": "DoesNotExist"}]});
        let given: LabelSelector = serde_json::from_value(given).unwrap();
        assert_eq!(selector(Some(&given)), "a=b,c in (x,y),!d");
    }
}
