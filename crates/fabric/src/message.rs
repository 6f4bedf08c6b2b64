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
    /// Payload bytes.
    pub(crate) length: u32,
    /// Where the payload begins in the payload area.
    pub(crate) offset: u32,
    pub(crate) reserved: [u64; 3],
}

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

impl Outgoing<'_> {
    /// The header, for a payload that begins at `offset` of the payload area.
    pub(crate) fn header(&self, offset: usize) -> Header {
        Header {
            operation: self.tag.operation,
            size: self.tag.size,
            consumed: self.consumed,
            length: self.payload.len() as u32,
            offset: offset as u32,
            reserved: [0; 3],
        }
    }
}

/// A message that has arrived, where it lies in the arena.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What the sender's upper layer said of it.
    pub tag: Tag,
    /// The bytes.
    pub payload: &'a [u8],
}

impl Outgoing<'static> {
    /// Credit alone: number 0, no payload.
    pub(crate) fn credit(consumed: u64) -> Self {
        Self { number: 0, tag: Tag::default(), consumed, payload: &[] }
    }
}
