//! Buffers that halo allocates on every rank at once: the peers on this host map them, and read what is sent from them
//! where it lies; over rdma they are registered.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::arena::Arena;
use crate::error::FabricError;
use crate::layout::LINE;
use crate::registration::{Held, Registration, Registry};
use crate::shm::{ShmExchange, ShmOffer};

/// What says, in the last line of a buffer's memory, that its owner has dropped it.
const DROPPED: u64 = 1;

/// Memory for inputs and outputs, made by [`crate::Mesh::share`]: bytes like any other for whoever holds it.
#[derive(Debug)]
pub struct SharedBuffer {
    // In this order: what is known of the memory goes before it does.
    _known: Arc<Held<u64>>,
    _registration: Registration,
    memory: Arc<Arena>,
    bytes: usize,
}

impl SharedBuffer {
    pub(crate) fn new(
        memory: Arc<Arena>,
        bytes: usize,
        known: Arc<Held<u64>>,
        registration: Registration,
    ) -> Self {
        Self { memory, bytes, _known: known, _registration: registration }
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.read(0, self.bytes)
    }
}

impl DerefMut for SharedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.slot_mut(0, self.bytes)
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        // The pages go at once; the peers' mappings, which hold none then, when they next share something.
        self.memory.discard();
        self.memory.store(mark(self.bytes), DROPPED);
    }
}

/// Where the mark of a buffer of `bytes` bytes lies.
fn mark(bytes: usize) -> usize {
    bytes.next_multiple_of(LINE)
}

/// Bytes of memory for a buffer and its mark.
pub(crate) fn memory_bytes(bytes: usize) -> usize {
    mark(bytes) + LINE
}

/// A buffer that this rank is about to share.
#[derive(Debug)]
pub struct Sharing {
    pub(crate) memory: Arena,
    pub(crate) bytes: usize,
    /// Where peers on this host push theirs.
    pub(crate) exchange: Option<ShmExchange>,
}

/// What a rank tells the others before they share.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invitation {
    pub(crate) bytes: usize,
    pub(crate) host: String,
    pub(crate) offer: Option<ShmOffer>,
}

impl Invitation {
    pub(crate) fn decode(bytes: &[u8], rank: usize) -> Result<Self, FabricError> {
        postcard::from_bytes(bytes).map_err(|error| FabricError::Handshake {
            peer: format!("rank {rank}"),
            cause: format!("what it shares cannot be read: {error}"),
        })
    }
}

/// The buffers of one peer that are mapped here, by number.
#[derive(Debug, Default)]
pub(crate) struct Mapped(Vec<(u64, usize, Arena)>);

impl Mapped {
    /// Adds a buffer of `bytes` bytes; those that the peer has dropped go.
    pub(crate) fn add(&mut self, number: u64, bytes: usize, memory: Arena) {
        self.0.retain(|(_, bytes, memory)| memory.load(mark(*bytes)) != DROPPED);
        self.0.push((number, bytes, memory));
    }

    /// Part of a buffer, which its owner leaves alone until the message that refers to it is released.
    #[inline]
    pub(crate) fn part(&self, number: u64, offset: u64, length: usize) -> Option<&[u8]> {
        let (_, bytes, memory) = self.0.iter().find(|(known, ..)| *known == number)?;
        let end = usize::try_from(offset).ok()?.checked_add(length)?;
        (end <= *bytes).then(|| memory.read(offset as usize, length))
    }
}

/// The buffers of this rank that are shared: their numbers by address.
pub(crate) type Shared = Registry<u64>;

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(registry: &mut Shared, number: u64, bytes: usize) -> (SharedBuffer, Arena) {
        let memory = Arc::new(Arena::allocate(memory_bytes(bytes)).unwrap());
        let twin = memory.twin().unwrap();
        let start = memory.base().as_ptr() as usize;
        let known = registry.add(start, bytes, Arc::new(number), 0);
        (SharedBuffer::new(memory, bytes, known, Registration::new(start, bytes, None)), twin)
    }

    #[test]
    fn a_part_is_read_where_it_lies_and_never_beyond_the_end() {
        let (mut registry, mut mapped) = (Shared::new(), Mapped::default());
        let (mut buffer, twin) = buffer(&mut registry, 5, 1000);
        mapped.add(5, 1000, twin);
        buffer[900..].fill(7);
        assert_eq!(mapped.part(5, 990, 10), Some(&[7; 10][..]));
        assert_eq!(
            (mapped.part(5, 990, 11), mapped.part(5, u64::MAX, 1), mapped.part(6, 0, 1)),
            (None, None, None)
        );
        let address = buffer.as_ptr() as usize + 900;
        assert_eq!(registry.find(address, 100).map(|(number, offset)| (*number, offset)), Some((5, 900)));
        drop(buffer);
        assert!(registry.find(address, 100).is_none());
    }

    #[test]
    fn what_its_owner_has_dropped_is_empty_and_is_unmapped_with_the_next() {
        let (mut registry, mut mapped) = (Shared::new(), Mapped::default());
        let (mut first, twin) = buffer(&mut registry, 1, 8192);
        first.fill(9);
        mapped.add(1, 8192, twin);
        drop(first);
        assert_eq!(mapped.part(1, 0, 8192), Some(&[0; 8192][..]), "its pages are given back");
        let (_second, twin) = buffer(&mut registry, 2, 10);
        mapped.add(2, 10, twin);
        assert!(mapped.part(1, 0, 1).is_none() && mapped.part(2, 0, 10).is_some());
    }
}
