//! Shared memory: the peer's arena is mapped here, so a write is a copy and a flag is a release store.

mod exchange;

use crate::arena::Arena;
use crate::doorbell;
use crate::layout::{FLAG_IN_TRAILER, Layout};
use crate::link::{Alarm, Link, LinkFailure};
use crate::message::{Header, Outgoing};

pub(crate) use exchange::{ShmExchange, ShmOffer};

/// A link to a rank on the same host.
#[derive(Debug)]
pub(crate) struct ShmLink {
    rank: usize,
    peer: usize,
    layout: Layout,
    theirs: Arena,
}

impl ShmLink {
    /// A link over the peer's arena, which the peer passed here.
    pub(crate) fn new(rank: usize, peer: usize, layout: Layout, theirs: Arena) -> Self {
        Self { rank, peer, layout, theirs }
    }
}

impl Link for ShmLink {
    fn ready(&mut self) -> bool {
        true
    }

    fn write(&mut self, _arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        let slot = self.layout.slot(self.peer, self.rank, message.number);
        let trailer = slot + self.layout.slot_bytes;
        self.theirs.write(slot, message.long_payload());
        self.theirs.write_header(trailer, &message.header());
        self.theirs.store(trailer + FLAG_IN_TRAILER, Header::flag(message.number));
        doorbell::ring(&self.theirs, self.layout.bell());
        Ok(())
    }

    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.theirs.store(self.layout.credit(self.peer, self.rank), consumed);
        doorbell::ring(&self.theirs, self.layout.bell());
        Ok(())
    }

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
