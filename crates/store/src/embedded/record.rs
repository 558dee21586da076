//! How keys and records lie in the tables. Pure.
//!
//! - `data`: escaped key, terminator, revision (big endian) → a [`Version`].
//! - `current`: key → [`Meta`] of its newest version; a deleted key has no row.
//! - `log`: revision → what it changed, as [`Logged`] rows.
//!
//! Escaping keeps the order of keys although they are followed by a revision: a zero byte becomes
//! `00 FF`, and the terminator is `00 01`.

use bytes::{Buf, BufMut, Bytes};

use crate::{KeyValue, LeaseId, Revision};

/// What a key's newest version is, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub modified: Revision,
    pub created: Revision,
    pub version: u64,
    /// 0 when the key is bound to no lease.
    pub lease: LeaseId,
}

impl Meta {
    const LEN: usize = 32;

    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(Self::LEN);
        out.put_u64(self.modified);
        out.put_u64(self.created);
        out.put_u64(self.version);
        out.put_i64(self.lease);
        out.into()
    }

    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        (bytes.len() == Self::LEN).then(|| Self {
            modified: bytes.get_u64(),
            created: bytes.get_u64(),
            version: bytes.get_u64(),
            lease: bytes.get_i64(),
        })
    }
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    Tombstone,
    Put { created: Revision, version: u64, value: Bytes },
}

const TOMBSTONE: u8 = 0;
const PUT: u8 = 1;
const PUT_HEADER: usize = 17;

impl Version {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Tombstone => Bytes::from_static(&[TOMBSTONE]),
            Self::Put { created, version, value } => {
                let mut out = Vec::with_capacity(PUT_HEADER + value.len());
                out.put_u8(PUT);
                out.put_u64(*created);
                out.put_u64(*version);
                out.put_slice(value);
                out.into()
            }
        }
    }

    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        match *bytes.first()? {
            TOMBSTONE => Some(Self::Tombstone),
            PUT if bytes.len() >= PUT_HEADER => {
                bytes.advance(1);
                Some(Self::Put { created: bytes.get_u64(), version: bytes.get_u64(), value: bytes })
            }
            _ => None,
        }
    }

    /// The key's content at this version; `None` when it was deleted.
    pub fn into_key_value(self, key: Bytes, revision: Revision) -> Option<KeyValue> {
        match self {
            Self::Tombstone => None,
            Self::Put { created, version, value } => {
                Some(KeyValue { key, value, create_revision: created, mod_revision: revision, version })
            }
        }
    }
}

/// One change of a logged revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logged {
    pub key: Bytes,
    /// The revision of the version that this one replaced; 0 when there was none.
    pub previous: Revision,
    pub deleted: bool,
}

pub(super) fn encode_log(changes: &[Logged]) -> Bytes {
    let mut out = Vec::with_capacity(changes.iter().map(|change| change.key.len() + 13).sum());
    for change in changes {
        out.put_u64(change.previous);
        out.put_u8(if change.deleted { TOMBSTONE } else { PUT });
        out.put_u32(u32::try_from(change.key.len()).unwrap_or(u32::MAX));
        out.put_slice(&change.key);
    }
    out.into()
}

pub(super) fn decode_log(mut bytes: Bytes) -> Option<Vec<Logged>> {
    let mut changes = Vec::with_capacity(1);
    while !bytes.is_empty() {
        if bytes.len() < 13 {
            return None;
        }
        let previous = bytes.get_u64();
        let deleted = bytes.get_u8() == TOMBSTONE;
        let len = bytes.get_u32() as usize;
        if bytes.len() < len {
            return None;
        }
        changes.push(Logged { key: bytes.split_to(len), previous, deleted });
    }
    Some(changes)
}

/// The escaped form of a key or of a bound of keys, without terminator.
pub(super) fn escape(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out
}

/// Where the version of `key` that was made at `revision` lies in `data`.
pub(super) fn data_key(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = escape(key);
    out.extend_from_slice(&[0, 1]);
    out.put_u64(revision);
    out
}

/// The key and the revision of a row of `data`.
pub(super) fn split_data_key(row: &[u8]) -> Option<(Bytes, Revision)> {
    let (escaped, mut revision) = row.split_at_checked(row.len().checked_sub(8)?)?;
    let escaped = escaped.strip_suffix(&[0, 1])?;
    if !escaped.contains(&0) {
        return Some((Bytes::copy_from_slice(escaped), revision.get_u64()));
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&0xFF) {
            return None;
        }
    }
    Some((key.into(), revision.get_u64()))
}

/// Where a lease's binding to `key` lies in `lease_keys`.
pub(super) fn lease_key(lease: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut out = lease.to_be_bytes().to_vec();
    out.extend_from_slice(key);
    out
}

/// A number of the `meta` and `leases` tables.
pub(super) fn decode_u64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_keep_the_order_of_keys_and_revisions(
            a in proptest::collection::vec(0u8..3, 0..6), ra in 0u64..4,
            b in proptest::collection::vec(0u8..3, 0..6), rb in 0u64..4,
        ) {
            let (row_a, row_b) = (data_key(&a, ra), data_key(&b, rb));
            prop_assert_eq!(row_a.cmp(&row_b), (&a, ra).cmp(&(&b, rb)));
            prop_assert_eq!(split_data_key(&row_a), Some((Bytes::from(a.clone()), ra)));
            // A bound of keys lies before every row of the key itself and behind those of smaller ones.
            prop_assert_eq!(row_a < escape(&b), a < b);
        }

        #[test]
        fn a_log_row_survives_its_encoding(keys in proptest::collection::vec(".{0,9}", 0..4)) {
            let changes: Vec<_> = keys.into_iter().enumerate().map(|(i, key)| Logged {
                key: key.into(), previous: i as u64, deleted: i % 2 == 0,
            }).collect();
            prop_assert_eq!(decode_log(encode_log(&changes)), Some(changes));
        }
    }

    #[test]
    fn a_cut_record_is_not_read_as_something_else() {
        let put = Version::Put { created: 2, version: 3, value: "v".into() };
        assert_eq!(Version::decode(put.encode()), Some(put.clone()));
        assert_eq!(Version::decode(put.encode().slice(..9)), None);
        assert_eq!(Version::decode(Bytes::new()), None);
        let logged = Logged { key: "key".into(), previous: 1, deleted: false };
        assert_eq!(decode_log(encode_log(&[logged]).slice(..14)), None);
        assert_eq!(Meta::decode(&[0; 31]), None);
    }
}
