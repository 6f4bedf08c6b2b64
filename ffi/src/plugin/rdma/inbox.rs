//! What a sender writes into the receiver's memory, read: flags of receives, and eager messages in their slots. It is
//! memory and arithmetic alone: whatever stands there, it is read or refused.

use std::sync::Arc;

use halo_fabric::Arena;
use halo_verbs::MemoryRegion;

use super::layout::{self, EagerRecord, RECORD_BYTES, Slot, read_word};
use crate::plugin::comm::memory::Memory;
use crate::plugin::comm::{Arrival, Failure, Incoming};
use crate::plugin::protocol::{
    Announcement, EAGER_SLOTS, Entry, KIND_ANNOUNCE, MAX_LANES, PROTOCOL_VERSION, Posted, Striping,
    TagCounters,
};

/// Receives that wait, and where their messages show.
#[derive(Debug)]
pub(super) struct Inbox {
    arena: Arc<Arena>,
    striping: Striping,
    eager_bytes: usize,
    counted: TagCounters,
    posted: Posted<Option<Arc<MemoryRegion>>>,
    /// Eager messages seen, and those of them whose receives have not been posted.
    eager_seen: u64,
    early: Vec<u64>,
}

impl Inbox {
    pub(super) fn new(arena: Arc<Arena>, eager_bytes: usize, striping: Striping) -> Self {
        Self {
            arena,
            striping,
            eager_bytes,
            counted: TagCounters::default(),
            posted: Posted::default(),
            eager_seen: 0,
            early: Vec::new(),
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

    /// Posts one part of a receive; what its sender must be told.
    pub(super) fn post(&mut self, request: usize, part: usize, incoming: &Incoming<'_>) -> Announcement {
        let Incoming { tag, data, room, memory } = *incoming;
        let index = self.counted.next(tag);
        self.counted.advance(tag);
        let region = memory.and_then(Memory::region).cloned();
        let key = region.as_ref().map_or(0, |region| region.remote_key());
        let entry = Entry { tag, index, data, room, request, part, _memory: region };
        let (place, generation) = self.posted.insert(entry);
        for lane in 0..MAX_LANES {
            self.arena.store(layout::receiver::flag(place, lane), 0);
        }
        Announcement {
            kind: KIND_ANNOUNCE,
            version: PROTOCOL_VERSION,
            tag,
            slot: place as u32,
            generation,
            key,
            index,
            room,
            address: data as u64,
            ..Announcement::credit(0)
        }
    }

    /// Whether a flag was raised since the last look.
    pub(super) fn anything_new(&self) -> bool {
        let slot = Slot::of(layout::receiver::SLOTS, self.eager_seen, self.eager_bytes);
        self.arena.load(slot.flag) == self.eager_seen + 1
            || self.posted.in_order().any(|place| {
                let word = self.arena.load(layout::receiver::flag(place, 0));
                read_word(word).0 == self.posted.generation(place)
            })
    }

    /// Eager messages whose slots are free again: all before the oldest that is still in use.
    pub(super) fn consumed(&self) -> u64 {
        self.early.iter().copied().min().unwrap_or(self.eager_seen)
    }

    /// Hands out eager messages whose receives are posted.
    pub(super) fn take_eager(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        if self.eager_bytes == 0 {
            return Ok(());
        }
        loop {
            let slot = Slot::of(layout::receiver::SLOTS, self.eager_seen, self.eager_bytes);
            let seen = self.arena.load(slot.flag) == self.eager_seen + 1;
            if self.early.len() >= EAGER_SLOTS || !seen {
                break;
            }
            self.early.push(self.eager_seen);
            self.eager_seen += 1;
        }
        if self.early.is_empty() {
            return Ok(());
        }
        let mut early = std::mem::take(&mut self.early);
        let mut result = Ok(());
        early.retain(|number| match self.hand_out(*number, arrived) {
            Ok(handed) => !handed,
            Err(failure) => {
                result = Err(failure);
                true
            }
        });
        self.early = early;
        result
    }

    /// Copies an eager message into its receive, if that has been posted.
    fn hand_out(&mut self, number: u64, arrived: &mut impl FnMut(Arrival)) -> Result<bool, Failure> {
        let slot = Slot::of(layout::receiver::SLOTS, number, self.eager_bytes);
        let record = self.arena.read(slot.record, RECORD_BYTES);
        let EagerRecord { tag, bytes, index } = bytemuck::pod_read_unaligned(record);
        let length = bytes as usize;
        if length > self.eager_bytes {
            return Err(Failure::Protocol(format!("{length} bytes in a slot of {}", self.eager_bytes)));
        }
        let Some(place) = self.posted.find(tag, index) else { return Ok(false) };
        let Some(Entry { data, room, request, part, .. }) = self.posted.remove(place) else {
            return Ok(false);
        };
        if u64::from(bytes) > room {
            return Err(Failure::Truncation { tag, bytes: u64::from(bytes), room });
        }
        if length > 0 {
            let payload = self.arena.read(slot.payload(length), length);
            // SAFETY: the core lends the buffer until the request is complete; it has room, and the arena is this
            // process's own.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), data, length) };
        }
        arrived(Arrival { request, part, bytes: u64::from(bytes) });
        Ok(true)
    }

    /// Hands out messages that were written straight into their receives.
    pub(super) fn take_written(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let mut complete: [Option<(usize, u64)>; 16] = [None; 16];
        let mut count = 0;
        for place in self.posted.in_order() {
            let generation = self.posted.generation(place);
            let word = |lane| read_word(self.arena.load(layout::receiver::flag(place, lane)));
            let (seen, bytes) = word(0);
            if seen != generation {
                continue;
            }
            let parts = self.striping.parts(bytes).count();
            if (1..parts).all(|lane| word(lane) == (generation, bytes)) && count < complete.len() {
                complete[count] = Some((place, bytes));
                count += 1;
            }
        }
        for (place, bytes) in complete.into_iter().flatten() {
            let Some(Entry { room, request, part, tag, .. }) = self.posted.remove(place) else { continue };
            if bytes > room {
                return Err(Failure::Truncation { tag, bytes, room });
            }
            arrived(Arrival { request, part, bytes });
        }
        Ok(())
    }
}
