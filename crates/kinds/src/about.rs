//! What a write of a part is about: what it leaves as it is nobody owns by such a write (upstream's `GetResetFields`).

use schema::managed::About;

use crate::rules::Part;

const ALL: About<'static> = About::AllBut(&[]);
const STATUS: About<'static> = About::AllBut(&[&["status"]]);
const SPEC: About<'static> = About::AllBut(&[&["spec"]]);
const ALL_BUT_STATUS: About<'static> = About::AllBut(&[&["metadata"], &["spec"]]);

/// What a write of this part of a built-in kind is about.
pub fn about(group: &str, kind: &str, part: Part) -> About<'static> {
    match (group, kind, part) {
        ("certificates.k8s.io", "CertificateSigningRequest", part) => About::AllBut(match part {
            Part::Main => &[&["spec"], &["status"]],
            Part::Status => &[&["spec"], &["status", "conditions"]],
            Part::Other(_) => &[&["spec"], &["status", "certificate"]],
        }),
        ("certificates.k8s.io", _, Part::Main) => ALL,
        (_, _, Part::Main) | ("", "Namespace", Part::Other("finalize")) => STATUS,
        // Upstream has filters for resizes and ephemeral containers, and asks nobody for them.
        (_, _, Part::Other(_)) => ALL,
        ("", "Pod", Part::Status) => {
            About::AllBut(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
        }
        ("apps", "Deployment", Part::Status) => About::AllBut(&[&["spec"], &["metadata", "labels"]]),
        ("networking.k8s.io", "ServiceCIDR", Part::Status)
        | (
            "admissionregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "internal.apiserver.k8s.io"
            | "resource.k8s.io"
            | "scheduling.k8s.io"
            | "storage.k8s.io"
            | "storagemigration.k8s.io",
            _,
            Part::Status,
        ) => ALL_BUT_STATUS,
        (_, _, Part::Status) => SPEC,
    }
}

/// The same for a custom kind, which may have no part of its own for its status.
pub fn about_custom(has_status: bool, part: Part) -> About<'static> {
    match part {
        Part::Main if has_status => STATUS,
        Part::Status => ALL_BUT_STATUS,
        _ => ALL,
    }
}
