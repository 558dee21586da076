//! A small encoder of the nftables netlink protocol (`linux/netfilter/nf_tables.h`).
//!
//! A [`Batch`] is one transaction: everything in it happens, or nothing. It knows nothing of Services.

pub mod expr;
mod message;
mod socket;

pub(crate) use message::Attributes;
pub use message::{Batch, Element, Family, Hook, MapSpec, Verdict};
pub use socket::{NftError, Socket};
