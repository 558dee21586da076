//! The store against its contract, a model, crashes, full disks and a real etcd.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod contract;
mod crash;
mod disk;
mod embedded;
mod etcd;
mod model;

use std::path::Path;

use store::embedded::{Embedded, EmbeddedOptions};

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, EmbeddedOptions::default()).unwrap()
}
