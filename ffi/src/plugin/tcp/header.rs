//! What stands before every payload.

use bytemuck::{Pod, Zeroable};

use crate::plugin::device::MAX_MESSAGE_BYTES;
use crate::plugin::protocol::MAX_POSTED;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();
/// In place of a slot: the sender does not know the receive.
pub(super) const EAGER: u32 = u32::MAX;
const MAGIC: u32 = u32::from_le_bytes(*b"halo");

/// One payload: a whole message, or one part of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Header {
    magic: u32,
    pub(super) tag: i32,
    /// The receiver's place and its generation, as announced; or [`EAGER`].
    pub(super) slot: u32,
    pub(super) generation: u32,
    /// The message's number among those with this tag.
    pub(super) index: u64,
    /// Bytes of the message.
    pub(super) total: u64,
    /// Where in the message this part begins, and its length.
    pub(super) offset: u64,
    pub(super) length: u64,
}

const _: () = assert!(HEADER_BYTES == 48);

impl Header {
    pub(super) fn new(
        tag: i32,
        slot: u32,
        generation: u32,
        index: u64,
        total: u64,
        part: (u64, u64),
    ) -> Self {
        Self { magic: MAGIC, tag, slot, generation, index, total, offset: part.0, length: part.1 }
    }

    /// As it came, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        let header: Self = bytemuck::pod_read_unaligned(bytes);
        let whole = header.offset == 0 && header.length == header.total;
        let good = header.magic == MAGIC
            && header.total <= MAX_MESSAGE_BYTES
            && header.offset.checked_add(header.length).is_some_and(|end| end <= header.total)
            && (header.slot == EAGER && whole || (header.slot as usize) < MAX_POSTED);
        if good { Ok(header) } else { Err(format!("a frame that makes no sense: {header:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_let_through_stays_within_its_message(
            slot in any::<u32>(), total in any::<u64>(), offset in any::<u64>(), length in any::<u64>(),
        ) {
            let header = Header::new(1, slot, 1, 0, total, (offset, length));
            if let Ok(header) = Header::decode(bytemuck::cast_ref(&header)) {
                prop_assert!(header.total <= MAX_MESSAGE_BYTES && header.offset + header.length <= header.total);
                prop_assert!(header.slot == EAGER || (header.slot as usize) < MAX_POSTED);
            }
        }
    }

    #[test]
    fn frames_of_something_else_are_refused() {
        assert!(Header::decode(&[0; HEADER_BYTES]).is_err());
        assert!(Header::decode(bytemuck::cast_ref(&Header::new(1, EAGER, 0, 0, 8, (0, 4)))).is_err());
        assert!(Header::decode(bytemuck::cast_ref(&Header::new(1, 3, 0, 0, 8, (4, 4)))).is_ok());
    }
}
