//! Static pods: manifests in a folder of the node, run without the API server and shown to it as mirror pods.
//!
//! ```text
//! file or page ─► manifest (pure) ─► Pods::set_static ─► a worker like any other
//!                                           └─► mirror: an object that shows the pod, made again whenever it is missing
//! ```
//!
//! The files, and the page, are the truth: what is done to a mirror pod does nothing to the pod.

mod folder;
mod manifest;
mod mirror;
pub mod page;

pub use folder::{Folder, follow};
pub use mirror::{MIRROR, is_mirror, keep, retire};
