//! What travels in a slot beside the payload.

use bytemuck::{Pod, Zeroable};

use crate::layout::{FLAG_IN_TRAILER, LINE};

/// What the layer above says of a message. The fabric carries it and compares nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tag {
    /// Which operation this belongs to.
    pub operation: u64,
    /// How large that operation is.
    pub size: u64,
}

/// The header of a message, as it lies in the trailer before the flag (native byte order: all ranks are
/// little-endian machines, which the handshake would refuse to mix).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) operation: u64,
    pub(crate) size: u64,
    /// How many of the receiver's own messages the sender has consumed: the credit, for free.
    pub(crate) consumed: u64,
    /// Payload bytes, and whether they were placed: see [`PLACED`].
    pub(crate) length: u64,
    /// The payload itself, if it is this short: then one cache line carries the whole message.
    pub(crate) short: [u8; SHORT_BYTES],
}

/// Payloads up to this many bytes travel in the header.
pub(crate) const SHORT_BYTES: usize = 24;
/// Where a short payload lies in a trailer.
pub(crate) const SHORT_IN_TRAILER: usize = std::mem::offset_of!(Header, short);

/// In a header's length: the payload does not lie in the slot, it was written to what the receiver had lent.
const PLACED: u64 = 1 << 63;
/// In a header's length: the payload does not lie in the slot, it is to be read in a buffer that the sender shares.
const REFERRED: u64 = 1 << 62;

impl Header {
    /// Payload bytes, wherever they lie.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.length & !(PLACED | REFERRED)
    }

    /// Whether the payload was written to what the receiver had lent.
    #[inline]
    pub(crate) fn is_placed(&self) -> bool {
        self.length & PLACED != 0
    }

    /// The number of the sender's shared buffer in which the payload lies, and where, if it does not lie in the slot.
    #[inline]
    pub(crate) fn referred(&self) -> Option<(u64, u64)> {
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|index| self.short[at + index]));
        (self.length & REFERRED != 0).then(|| (word(0), word(8)))
    }

    /// Bytes of the payload that lie in the slot and not in the header.
    pub(crate) fn bytes_in_slot(&self) -> usize {
        if self.length <= SHORT_BYTES as u64 { 0 } else { self.length as usize }
    }

    /// The flag behind this header where the flag is known to become visible last.
    #[inline]
    pub(crate) fn flag(number: u64) -> u64 {
        number & NUMBER
    }

    /// The flag behind this header where header and flag travel as one write of a NIC, which says nothing of the order
    /// of the bytes within: the upper half proves that the header is the one that belongs to it.
    pub(crate) fn checked_flag(&self, number: u64) -> u64 {
        self.check(number) << 32 | number & NUMBER
    }

    /// Whether `flag` announces message `number`; the header may still be on its way, see [`Header::is_whole`].
    #[inline]
    pub(crate) fn announces(flag: u64, number: u64) -> bool {
        flag & NUMBER == number & NUMBER
    }

    /// Whether this is the header that `flag` belongs to.
    #[inline]
    pub(crate) fn is_whole(&self, flag: u64) -> bool {
        flag >> 32 == 0 || flag >> 32 == self.check(flag)
    }

    /// 32 bits that depend on every bit of the header; never 0, which stands for no check.
    fn check(&self, number: u64) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let words: &[u64; HEADER_BYTES / 8] = bytemuck::cast_ref(self);
        let mixed = words
            .iter()
            .fold(number & NUMBER, |mixed, word| (mixed ^ word).wrapping_mul(ODD).rotate_left(29));
        (mixed.wrapping_mul(ODD) >> 32).max(1)
    }
}

/// The part of a flag that numbers the message.
const NUMBER: u64 = 0xffff_ffff;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>();

const _: () = assert!(HEADER_BYTES == FLAG_IN_TRAILER, "the header fills the trailer up to the flag");
const _: () = assert!(HEADER_BYTES + 8 == LINE, "header and flag are one cache line");

/// A message on its way out: what a [`crate::link::Link`] writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// Its number in this pair and direction, from 1: the slot and the value of the flag.
    pub(crate) number: u64,
    pub(crate) tag: Tag,
    pub(crate) consumed: u64,
    pub(crate) payload: &'a [u8],
}

/// What a rank lends to a peer: where that peer's part of an operation goes. It travels as a header in a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lend {
    pub(crate) tag: Tag,
    /// The first of the peer's messages that belongs to the operation.
    pub(crate) number: u64,
    /// Where, as the lender's NIC addresses it.
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    /// The lender's key for it, of each rail.
    pub(crate) keys: [u32; MAX_RAILS],
}

/// The most rails of one link: so many keys fit the line in which memory is lent.
pub(crate) const MAX_RAILS: usize = (SHORT_BYTES - 8) / 4;

/// What stands for the number of a message in the flag behind a [`Lend`].
pub(crate) const LEND: u64 = 1;

impl Lend {
    pub(crate) fn header(&self) -> Header {
        let mut short = [0; SHORT_BYTES];
        short[..8].copy_from_slice(&self.address.to_ne_bytes());
        short[8..].copy_from_slice(bytemuck::bytes_of(&self.keys));
        let Tag { operation, size } = self.tag;
        Header { operation, size, consumed: self.number, length: self.bytes, short }
    }

    pub(crate) fn from_header(header: &Header) -> Self {
        let word = |at: usize| std::array::from_fn::<u8, 8, _>(|index| header.short[at + index]);
        Self {
            tag: Tag { operation: header.operation, size: header.size },
            number: header.consumed,
            address: u64::from_ne_bytes(word(0)),
            bytes: header.length,
            keys: bytemuck::pod_read_unaligned(&header.short[8..]),
        }
    }

    /// Whether message `number` of the operation `tag`, `bytes` bytes for `place`, may be written there. The number tells
    /// this operation from one of the same tag long ago, when the numbers of operations begin anew.
    pub(crate) fn takes(&self, tag: Tag, number: u64, place: usize, bytes: usize) -> bool {
        let behind = number.wrapping_sub(self.number);
        let end = (place as u64).checked_add(bytes as u64);
        self.tag == tag && behind <= self.bytes / LINE as u64 && end.is_some_and(|end| end <= self.bytes)
    }
}

impl Outgoing<'_> {
    /// Its header, with a short payload in it.
    #[inline]
    pub(crate) fn header(&self) -> Header {
        let mut header = Header {
            operation: self.tag.operation,
            size: self.tag.size,
            consumed: self.consumed,
            length: self.payload.len() as u64,
            short: [0; SHORT_BYTES],
        };
        if self.is_short() {
            header.short[..self.payload.len()].copy_from_slice(self.payload);
        }
        header
    }

    /// Its header when the payload is written to what the receiver has lent.
    pub(crate) fn placed_header(&self) -> Header {
        Header { length: self.payload.len() as u64 | PLACED, short: [0; SHORT_BYTES], ..self.header() }
    }

    /// Its header when the receiver reads the payload in a buffer that this rank shares.
    pub(crate) fn referring_header(&self, buffer: u64, offset: u64) -> Header {
        let mut short = [0; SHORT_BYTES];
        short[..8].copy_from_slice(&buffer.to_ne_bytes());
        short[8..16].copy_from_slice(&offset.to_ne_bytes());
        Header { length: self.payload.len() as u64 | REFERRED, short, ..self.header() }
    }

    /// Whether the payload travels in the header.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.payload.len() <= SHORT_BYTES
    }

    /// What travels beside the header.
    #[inline]
    pub(crate) fn long_payload(&self) -> &[u8] {
        if self.is_short() { &[] } else { self.payload }
    }
}

/// A message that has arrived, where it lies in the arena.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What the sender's upper layer said of it.
    pub tag: Tag,
    /// The bytes; none here if they were placed.
    pub payload: &'a [u8],
    /// How many bytes the sender has written straight to what this rank had lent it, if it did that.
    pub placed: Option<usize>,
}

impl Outgoing<'static> {
    /// Credit alone: number 0, no payload.
    pub(crate) fn credit(consumed: u64) -> Self {
        Self { number: 0, tag: Tag::default(), consumed, payload: &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A NIC may make a line visible in any order: with any words still the old ones, it is not taken for whole.
        #[test]
        fn a_torn_header_is_not_whole(new: [u64; 7], old: [u64; 7], missing in 1u8..128, number in 1u64..u64::MAX) {
            let header: Header = bytemuck::cast(new);
            let flag = header.checked_flag(number);
            prop_assert!(Header::announces(flag, number) && header.is_whole(flag));
            let mut torn = new;
            for word in (0..7).filter(|word| missing >> word & 1 == 1) {
                torn[word] = old[word];
            }
            prop_assume!(torn != new);
            prop_assert!(!bytemuck::cast::<_, Header>(torn).is_whole(flag));
        }

        #[test]
        fn what_is_lent_survives_its_line(operation: u64, size: u64, number: u64, address: u64, bytes: u64, keys: [u32; MAX_RAILS]) {
            let lend = Lend { tag: Tag { operation, size }, number, address, bytes, keys };
            prop_assert_eq!(Lend::from_header(&lend.header()), lend);
        }
    }

    #[test]
    fn only_this_operation_and_what_fits_goes_to_what_is_lent() {
        let tag = Tag { operation: 5, size: 1 << 20 };
        let lend = Lend { tag, number: 10, address: 0, bytes: 4096, keys: [1; MAX_RAILS] };
        assert!(
            lend.takes(tag, 10, 0, 4096) && lend.takes(tag, 11, 2048, 2048) && lend.takes(tag, 74, 4032, 64)
        );
        assert!(!lend.takes(Tag { operation: 6, ..tag }, 10, 0, 4096), "another operation");
        assert!(!lend.takes(tag, 9, 0, 64) && !lend.takes(tag, 75, 0, 64), "another message");
        assert!(!lend.takes(tag, 10, 2048, 2049) && !lend.takes(tag, 10, usize::MAX, 2), "beyond the end");
    }
}
