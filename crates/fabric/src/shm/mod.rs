//! Shared memory: the peer's arena is mapped here, so a write is a copy and a flag is a release store.

mod exchange;

use crate::arena::Arena;
use crate::doorbell;
use crate::layout::{FLAG_IN_TRAILER, Layout};
use crate::link::{Alarm, Link, LinkFailure};
use crate::message::{Header, Outgoing};
use crate::shared::Mapped;

pub(crate) use exchange::{ShmExchange, ShmOffer};

/// A link to a rank on the same host.
#[derive(Debug)]
pub(crate) struct ShmLink {
    rank: usize,
    peer: usize,
    layout: Layout,
    theirs: Arena,
    /// The peer's shared buffers.
    mapped: Mapped,
    /// The last message whose payload the peer reads in a buffer of this rank's.
    referred: u64,
}

impl ShmLink {
    /// A link over the peer's arena, which the peer passed here.
    pub(crate) fn new(rank: usize, peer: usize, layout: Layout, theirs: Arena) -> Self {
        Self { rank, peer, layout, theirs, mapped: Mapped::default(), referred: 0 }
    }

    #[inline]
    fn put(&self, slot: usize, number: u64, header: &Header) {
        let trailer = slot + self.layout.slot_bytes;
        self.theirs.write_header(trailer, header);
        self.theirs.store(trailer + FLAG_IN_TRAILER, Header::flag(number));
        doorbell::ring(&self.theirs, self.layout.bell());
    }

    /// Sends a message whose payload the peer reads at `offset` of a buffer that this rank shares.
    pub(crate) fn refer(&mut self, message: &Outgoing<'_>, buffer: u64, offset: u64) {
        let slot = self.layout.slot(self.peer, self.rank, message.number);
        self.referred = message.number;
        self.put(slot, message.number, &message.referring_header(buffer, offset));
    }

    /// The last message that was sent so.
    #[inline]
    pub(crate) fn last_referred(&self) -> u64 {
        self.referred
    }

    /// The peer's shared buffers.
    pub(crate) fn mapped(&mut self) -> &mut Mapped {
        &mut self.mapped
    }

    /// A payload in one of them.
    #[inline]
    pub(crate) fn referred(&self, buffer: u64, offset: u64, length: usize) -> Result<&[u8], LinkFailure> {
        self.mapped.part(buffer, offset, length).ok_or_else(|| {
            format!("{length} bytes at {offset} of its buffer {buffer} are in nothing that it shares")
        })
    }
}

impl Link for ShmLink {
    #[inline]
    fn ready(&mut self) -> bool {
        true
    }

    #[inline]
    fn write(&mut self, _arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        let slot = self.layout.slot(self.peer, self.rank, message.number);
        self.theirs.write(slot, message.long_payload());
        self.put(slot, message.number, &message.header());
        Ok(())
    }

    #[inline]
    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.theirs.store(self.layout.credit(self.peer, self.rank), consumed);
        doorbell::ring(&self.theirs, self.layout.bell());
        Ok(())
    }

    #[inline]
    fn progress(&mut self, _arena: &Arena, _consumed: u64) -> Result<(), LinkFailure> {
        Ok(())
    }

    fn flushed(&self) -> bool {
        true
    }

    fn alarm(&self) -> Alarm<'_> {
        Alarm::Bell
    }
}
