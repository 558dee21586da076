//! Messages of traffic control (`linux/pkt_sched.h`, `linux/pkt_cls.h`, `linux/tc_act/tc_mirred.h`).

use crate::nft::Attributes;

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;

/// A token bucket, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// Bytes per second.
    pub rate: u64,
    /// What may pass at once.
    pub burst: u32,
    /// What may wait, the burst included.
    pub limit: u32,
}

struct Header {
    kind: u16,
    flags: u16,
    index: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

fn message(header: &Header, attributes: &Attributes) -> Vec<u8> {
    let body = attributes.bytes();
    let length = u32::try_from(36 + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(36 + body.len());
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&header.kind.to_ne_bytes());
    out.extend_from_slice(&(header.flags | REQUEST | ACK).to_ne_bytes());
    out.extend_from_slice(&[0; 12]);
    for field in [header.index, header.handle, header.parent, header.info] {
        out.extend_from_slice(&field.to_ne_bytes());
    }
    out.extend_from_slice(body);
    out
}

/// A token bucket in place of whatever a link's queue was.
pub(super) fn bucket(index: u32, bucket: Bucket) -> Vec<u8> {
    let header = Header {
        kind: RTM_NEWQDISC,
        flags: CREATE | REPLACE,
        index,
        handle: 0x1_0000,
        parent: ROOT,
        info: 0,
    };
    let mut attributes = Attributes::default();
    attributes.text(TCA_KIND, "tbf").nest(TCA_OPTIONS, |options| {
        const PARMS: u16 = 1;
        const RATE64: u16 = 4;
        const BURST: u16 = 6;
        // The kernel reckons in units of 64 ns; the burst below says it exactly.
        let ticks = u128::from(bucket.burst) * 1_000_000_000 / u128::from(bucket.rate.max(1)) / 64;
        let mut parms = rate(bucket.rate);
        parms.extend_from_slice(&[0; 12]);
        parms.extend_from_slice(&bucket.limit.to_ne_bytes());
        parms.extend_from_slice(&u32::try_from(ticks).unwrap_or(u32::MAX).to_ne_bytes());
        parms.extend_from_slice(&[0; 4]);
        options.put(PARMS, &parms).put(BURST, &bucket.burst.to_ne_bytes());
        if u32::try_from(bucket.rate).is_err() {
            options.put(RATE64, &bucket.rate.to_ne_bytes());
        }
    });
    message(&header, &attributes)
}

/// `struct tc_ratespec`, on links whose packets are as long as they are.
fn rate(bytes: u64) -> Vec<u8> {
    const ETHERNET: u8 = 1;
    let mut out = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_ne_bytes());
    out
}

/// Where what a link sends us can be caught.
pub(super) fn ingress(index: u32) -> Vec<u8> {
    let header = Header {
        kind: RTM_NEWQDISC,
        flags: CREATE | REPLACE,
        index,
        handle: INGRESS_HANDLE,
        parent: INGRESS,
        info: 0,
    };
    let mut attributes = Attributes::default();
    attributes.text(TCA_KIND, "ingress");
    message(&header, &attributes)
}

/// Everything that comes from a link goes by way of a device.
pub(super) fn filter(index: u32, device: u32) -> Vec<u8> {
    const PRIORITY: u32 = 1;
    const EVERY_PROTOCOL: u16 = 3;
    let info = (PRIORITY << 16) | u32::from(EVERY_PROTOCOL.to_be());
    // A name of its own, so that doing it again finds it: the first filter of the first table.
    const HANDLE: u32 = 0x8000_0800;
    let header = Header {
        kind: RTM_NEWTFILTER,
        flags: CREATE | REPLACE,
        index,
        handle: HANDLE,
        parent: INGRESS_HANDLE,
        info,
    };
    let mut attributes = Attributes::default();
    attributes.text(TCA_KIND, "u32").nest(TCA_OPTIONS, |options| {
        const SELECTOR: u16 = 5;
        const ACTIONS: u16 = 7;
        // Terminal, one key, which compares nothing.
        let mut selector = vec![1, 0, 1, 0];
        selector.extend_from_slice(&[0; 12 + 16]);
        options.put(SELECTOR, &selector).nest(ACTIONS, |actions| {
            actions.nest(1, |action| {
                const KIND: u16 = 1;
                const OPTIONS: u16 = 2;
                action.text(KIND, "mirred").nest(OPTIONS, |mirred| {
                    const PARMS: u16 = 2;
                    const STOLEN: u32 = 4;
                    const REDIRECT: u32 = 1;
                    let parms = [0, 0, STOLEN, 0, 0, REDIRECT, device];
                    mirred.put(PARMS, &parms.map(u32::to_ne_bytes).concat());
                });
            });
        });
    });
    message(&header, &attributes)
}
