//! What a receiver tells its sender: 64 bytes, in the sender's ring over RDMA, on the control connection over TCP.

use bytemuck::{Pod, Zeroable};

use super::{MAX_POSTED, PROTOCOL_VERSION};
use crate::plugin::device::{MAX_MESSAGE_BYTES, MAX_PORTS};

/// Bytes of an announcement.
pub(crate) const ANNOUNCEMENT_BYTES: usize = size_of::<Announcement>();
/// A receive has been posted.
pub(crate) const KIND_ANNOUNCE: u16 = 1;
/// Only `eager_consumed` has meaning.
pub(crate) const KIND_CREDIT: u16 = 2;
/// [`PROTOCOL_VERSION`], as it stands here.
pub(crate) const VERSION: u16 = PROTOCOL_VERSION as u16;

/// A receive that has been posted.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Announcement {
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) tag: i32,
    /// Which of the receiver's places it has, and a number that tells successive users of the place apart.
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// By which it is written, one for each of the receiver's ports (RDMA).
    pub(crate) keys: [u32; MAX_PORTS],
    /// Its number among the receives with this tag, from 0.
    pub(crate) index: u64,
    /// Bytes that it can take.
    pub(crate) room: u64,
    /// Where they go (RDMA).
    pub(crate) address: u64,
    /// Eager messages that the receiver has taken out of their slots so far.
    pub(crate) eager_consumed: u64,
}

impl Announcement {
    /// Credit alone.
    pub(crate) fn credit(eager_consumed: u64) -> Self {
        Self { kind: KIND_CREDIT, version: VERSION, eager_consumed, ..Self::zeroed() }
    }

    /// As it came, or what is wrong with it.
    pub(crate) fn decode(bytes: &[u8; ANNOUNCEMENT_BYTES]) -> Result<Self, String> {
        let told: Self = bytemuck::pod_read_unaligned(bytes);
        if told.version != VERSION || !matches!(told.kind, KIND_ANNOUNCE | KIND_CREDIT) {
            return Err(format!("an announcement of kind {} and version {}", told.kind, told.version));
        }
        if told.kind == KIND_ANNOUNCE && (told.room > MAX_MESSAGE_BYTES || told.slot as usize >= MAX_POSTED) {
            return Err(format!("an announcement of {} bytes in place {}", told.room, told.slot));
        }
        Ok(told)
    }
}

const _: () = assert!(ANNOUNCEMENT_BYTES == 64);

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(bytes in proptest::array::uniform32(proptest::num::u8::ANY)) {
            let mut whole = [0; ANNOUNCEMENT_BYTES];
            whole[..32].copy_from_slice(&bytes);
            whole[32..].copy_from_slice(&bytes);
            // The way past the kind and the version.
            if bytes[4] & 1 == 0 {
                whole[..2].copy_from_slice(&KIND_ANNOUNCE.to_ne_bytes());
                whole[2..4].copy_from_slice(&VERSION.to_ne_bytes());
            }
            if let Ok(told) = Announcement::decode(&whole) {
                proptest::prop_assert_eq!(bytemuck::bytes_of(&told), &whole);
                proptest::prop_assert!((told.slot as usize) < MAX_POSTED || told.kind == KIND_CREDIT);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good =
            Announcement { kind: KIND_ANNOUNCE, room: 5, keys: [1, 2, 3, 4], ..Announcement::credit(3) };
        let check = |told: Announcement| Announcement::decode(bytemuck::cast_ref(&told));
        assert_eq!(check(good), Ok(good));
        assert!(check(Announcement { room: MAX_MESSAGE_BYTES + 1, ..good }).is_err());
        assert!(check(Announcement { slot: MAX_POSTED as u32, ..good }).is_err());
        assert!(check(Announcement { kind: 7, ..good }).is_err());
        assert!(check(Announcement { version: 9, ..good }).is_err());
    }
}
