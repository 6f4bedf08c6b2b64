//! What a receiver writes into the sender's memory, read: the ring of announcements, and credit for eager messages. As
//! with the [`inbox`](super::inbox), whatever stands there is read or refused.

use std::sync::Arc;

use halo_fabric::Arena;

use super::layout::{self, RING};
use crate::plugin::comm::Failure;
use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, Announced, Announcement, KIND_ANNOUNCE, TagCounters};

/// Receives that were announced and wait for their messages.
#[derive(Debug)]
pub(super) struct Ring {
    arena: Arc<Arena>,
    read: u64,
    announced: Announced,
    sent: TagCounters,
}

impl Ring {
    pub(super) fn new(arena: Arc<Arena>) -> Self {
        Self { arena, read: 0, announced: Announced::default(), sent: TagCounters::default() }
    }

    /// The number of the next message with a tag, and its receive if that has been announced.
    pub(super) fn next(&mut self, tag: i32) -> Result<(u64, Option<Announcement>), Failure> {
        self.look()?;
        let index = self.sent.next(tag);
        Ok((index, self.announced.find(tag, index).copied()))
    }

    /// Notes that this message is on its way.
    pub(super) fn gone(&mut self, tag: i32, index: u64) {
        self.announced.remove(tag, index);
        self.sent.advance(tag);
    }

    /// How many of the eager messages the receiver has taken out of their slots.
    pub(super) fn credit(&self, sent: u64) -> Result<u64, Failure> {
        let consumed = self.arena.load(layout::sender::CREDIT);
        if consumed > sent {
            return Err(Failure::Protocol(format!("it has consumed {consumed} of {sent} messages")));
        }
        Ok(consumed)
    }

    fn look(&mut self) -> Result<(), Failure> {
        let told = self.arena.load(layout::sender::ANNOUNCED);
        if told == self.read {
            return Ok(());
        }
        if told < self.read || told - self.read > RING {
            return Err(Failure::Protocol(format!("announcement {told} after {}", self.read)));
        }
        while self.read < told {
            let bytes = self.arena.read(layout::sender::ring(self.read), ANNOUNCEMENT_BYTES);
            let told = Announcement::decode(bytes.first_chunk().expect("as many bytes as were asked for"));
            let told = told.map_err(Failure::Protocol)?;
            if told.kind == KIND_ANNOUNCE {
                self.announced.add(told, &self.sent).map_err(Failure::Protocol)?;
            }
            self.read += 1;
        }
        Ok(())
    }
}
