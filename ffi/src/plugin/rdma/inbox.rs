//! What a sender writes into the receiver's memory, read: messages in their receives, and eager messages in their slots. It
//! is memory and arithmetic alone: whatever immediate values come, they are read or refused.

use std::sync::Arc;

use halo_fabric::Arena;

use super::immediate::{Immediate, same_generation, whole_index};
use super::layout;
use crate::plugin::comm::memory::{Memory, Regions};
use crate::plugin::comm::{Arrival, Failure, Incoming};
use crate::plugin::protocol::{
    Announcement, EAGER_SLOTS, Entry, KIND_ANNOUNCE, MAX_POSTED, Posted, TagCounters, VERSION,
};

/// Receives that wait, and messages that wait for theirs.
#[derive(Debug)]
pub(super) struct Inbox {
    arena: Arc<Arena>,
    eager_bytes: usize,
    counted: TagCounters,
    posted: Posted<Option<Arc<Regions>>>,
    /// Of the receive in each place: parts that have come, and their bytes.
    filled: Vec<(usize, u64)>,
    /// Places of receives that the sender has not been told of, in the order of posting.
    untold: Vec<usize>,
    eager_seen: u64,
    /// Eager messages that lie in their slots.
    early: Vec<Early>,
}

#[derive(Debug, Clone, Copy)]
struct Early {
    number: u64,
    tag: i32,
    index: u64,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(arena: Arc<Arena>, eager_bytes: usize) -> Self {
        Self {
            arena,
            eager_bytes,
            counted: TagCounters::default(),
            posted: Posted::default(),
            filled: vec![(0, 0); MAX_POSTED],
            untold: Vec::with_capacity(MAX_POSTED),
            eager_seen: 0,
            early: Vec::with_capacity(EAGER_SLOTS),
        }
    }

    /// Receives that can still be posted.
    pub(super) fn room(&self) -> usize {
        self.posted.room()
    }

    /// Whether no receive waits.
    pub(super) fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }

    /// Posts one part of a receive.
    pub(super) fn post(&mut self, request: usize, part: usize, incoming: &Incoming<'_>) {
        let Incoming { tag, data, room, memory } = *incoming;
        let index = self.counted.next(tag);
        self.counted.advance(tag);
        let memory = memory.and_then(Memory::regions).cloned();
        let (place, _) = self.posted.insert(Entry { tag, index, data, room, request, part, memory });
        self.filled[place] = (0, 0);
        self.untold.push(place);
    }

    /// Whether there are receives that the sender has not been told of.
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Has `tell` hear of every receive that the sender has not been told of.
    pub(super) fn tell(&mut self, mut tell: impl FnMut(&Announcement)) {
        for place in self.untold.drain(..) {
            let Some(entry) = self.posted.get(place) else { continue };
            let Entry { tag, index, data, room, memory, .. } = entry;
            tell(&Announcement {
                kind: KIND_ANNOUNCE,
                version: VERSION,
                tag: *tag,
                slot: place as u32,
                generation: self.posted.generation(place),
                keys: memory.as_ref().map_or_else(Default::default, |regions| regions.keys()),
                index: *index,
                room: *room,
                address: *data as u64,
                ..Announcement::credit(0)
            });
        }
    }

    /// Eager messages whose slots are free again: all before the oldest that is still in use.
    pub(super) fn consumed(&self) -> u64 {
        self.early.first().map_or(self.eager_seen, |early| early.number)
    }

    /// Takes in a write of `bytes` bytes with an immediate value.
    pub(super) fn take(
        &mut self,
        immediate: u32,
        bytes: u32,
        arrived: &mut impl FnMut(Arrival),
    ) -> Result<(), Failure> {
        let refuse = |what: &str| {
            let value = Immediate::decode(immediate);
            Err(Failure::Protocol(format!("{what}: {bytes} bytes, {value:?}")))
        };
        match Immediate::decode(immediate) {
            Immediate::Part { place, generation, parts } => {
                let Some(Entry { tag, room, .. }) = self.posted.get(place) else {
                    return refuse("a message for a receive that does not wait");
                };
                if !same_generation(self.posted.generation(place), generation) {
                    return refuse("a message for a receive that is complete");
                }
                let (count, total) = &mut self.filled[place];
                (*count, *total) = (*count + 1, *total + u64::from(bytes));
                let (count, total) = (*count, *total);
                if total > *room {
                    return Err(Failure::Truncation { tag: *tag, bytes: total, room: *room });
                }
                if count > parts {
                    return refuse("more parts than the message has");
                }
                if count == parts {
                    self.untold.retain(|untold| *untold != place);
                    self.complete(place, total, arrived);
                }
                Ok(())
            }
            Immediate::Eager { tag, index } => {
                let (tag, bytes) = (i32::from(tag), bytes as usize);
                let Some(index) = whole_index(self.counted.next(tag), index) else {
                    return refuse("a message with a number below 0");
                };
                if bytes > self.eager_bytes || self.early.len() >= EAGER_SLOTS {
                    return refuse("a message that is too large for its slot, or one too many");
                }
                self.early.push(Early { number: self.eager_seen, tag, index, bytes });
                self.eager_seen += 1;
                Ok(())
            }
        }
    }

    /// Hands out eager messages whose receives are posted.
    pub(super) fn take_eager(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let mut at = 0;
        while let Some(early) = self.early.get(at).copied() {
            if self.hand_out(&early, arrived)? {
                self.early.remove(at);
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// Copies an eager message into its receive, if that has been posted.
    fn hand_out(&mut self, early: &Early, arrived: &mut impl FnMut(Arrival)) -> Result<bool, Failure> {
        let Early { number, tag, index, bytes } = *early;
        let Some(place) = self.posted.find(tag, index) else { return Ok(false) };
        let Some(Entry { data, room, .. }) = self.posted.get(place) else { return Ok(false) };
        if bytes as u64 > *room {
            return Err(Failure::Truncation { tag, bytes: bytes as u64, room: *room });
        }
        if bytes > 0 {
            let payload = self.arena.read(layout::receiver::slot(number, self.eager_bytes), bytes);
            // SAFETY: the core lends the buffer until the request is complete; it has room, and the arena is this
            // process's own.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), *data, bytes) };
        }
        self.untold.retain(|untold| *untold != place);
        self.complete(place, bytes as u64, arrived);
        Ok(true)
    }

    fn complete(&mut self, place: usize, bytes: u64, arrived: &mut impl FnMut(Arrival)) {
        if let Some(Entry { request, part, .. }) = self.posted.remove(place) {
            arrived(Arrival { request, part, bytes });
        }
    }
}
