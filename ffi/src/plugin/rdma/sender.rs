//! The sending half of an RDMA connection.

use std::sync::Arc;

use halo_verbs::{MemoryRegion, Remote, WorkRequest};

use super::lane::{Kind, Name};
use super::layout::{self, EagerRecord, RECORD_BYTES, Slot, done_word};
use super::ring::Ring;
use super::{Connected, failed, failure};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::memory::Memory;
use crate::plugin::comm::{Failure, Outgoing};
use crate::plugin::protocol::{Announcement, EAGER_SLOTS, MAX_POSTED, Striping};

/// Completions taken per look.
const COMPLETIONS: usize = 16;

#[derive(Debug)]
pub(crate) struct Sender {
    control: Control,
    // Queue pairs go before the memory that they work on.
    connected: Connected,
    striping: Striping,
    eager_bytes: usize,
    ring: Ring,
    /// The lane that the next message begins with: each has its turn.
    turn: usize,
    eager_sent: u64,
    eager_completed: u64,
    outstanding: Vec<Outstanding>,
}

/// What of a request is not complete.
#[derive(Debug, Default)]
struct Outstanding {
    parts: usize,
    bytes: u64,
    /// Keeps the memory registered.
    _memory: Option<Arc<MemoryRegion>>,
}

impl Sender {
    pub(crate) fn new(
        control: Control,
        connected: Connected,
        eager_bytes: usize,
        striping: Striping,
    ) -> Self {
        Self {
            control,
            ring: Ring::new(Arc::clone(&connected.arena)),
            connected,
            striping,
            eager_bytes,
            turn: 0,
            eager_sent: 0,
            eager_completed: 0,
            outstanding: (0..MAX_POSTED).map(|_| Outstanding::default()).collect(),
        }
    }

    /// Puts a message on its way; false when its receive is not known yet and it cannot go without, or a queue is full.
    pub(crate) fn post(&mut self, message: &Outgoing<'_>) -> Result<bool, Failure> {
        let (index, told) = self.ring.next(message.tag)?;
        let posted = match told {
            Some(told) => self.write(message, &told)?,
            None => self.write_eagerly(message, index)?,
        };
        if posted {
            self.ring.gone(message.tag, index);
        } else {
            self.watch()?;
        }
        Ok(posted)
    }

    /// Straight into the receive.
    fn write(&mut self, message: &Outgoing<'_>, told: &Announcement) -> Result<bool, Failure> {
        let Outgoing { request, tag, data, bytes, memory } = *message;
        if bytes > told.room {
            return Err(Failure::Truncation { tag, bytes, room: told.room });
        }
        let (parts, lanes) = (self.striping.parts(bytes).count(), self.connected.lanes.len());
        // Messages find their receives by tag and number, so it does not matter which lane brings them.
        let lane_of = |part: usize| (self.turn + part) % lanes;
        if (0..parts).any(|part| !self.connected.lanes[lane_of(part)].has_room(2)) {
            return Ok(false);
        }
        let port = self.connected.port;
        let region = memory.and_then(Memory::region);
        for (part, (offset, length)) in self.striping.parts(bytes).enumerate() {
            let lane = lane_of(part);
            let flag = self.connected.remote(layout::receiver::flag(told.slot as usize, part));
            let flag = WorkRequest::write_inline(done_word(told.generation, bytes), flag);
            let name = |place| Name { kind: Kind::Part, lane, request, place }.encode();
            let queue = &mut self.connected.lanes[lane];
            let posted = match region.filter(|_| length > 0) {
                Some(region) => {
                    let to = Remote { address: told.address.wrapping_add(offset), key: told.key };
                    let from = (data as u64 - region.address() + offset) as usize;
                    let body = WorkRequest::write(region, from, length as usize, to);
                    body.and_then(|body| queue.post([body, flag], name))
                }
                None => queue.post([flag], name),
            };
            posted.map_err(|error| failure(port, &error))?;
        }
        self.turn = lane_of(parts);
        self.outstanding[request] = Outstanding { parts, bytes, _memory: region.cloned() };
        Ok(true)
    }

    /// Into one of the receiver's slots, by way of this side's own.
    fn write_eagerly(&mut self, message: &Outgoing<'_>, index: u64) -> Result<bool, Failure> {
        let Outgoing { request, tag, data, bytes, memory } = *message;
        let consumed = self.ring.credit(self.eager_sent)?;
        let slots = EAGER_SLOTS as u64;
        let small = bytes <= self.eager_bytes as u64 && self.eager_bytes > 0;
        // The slot must be free on both sides: consumed there, and not being sent any more here.
        let free = self.eager_sent - consumed < slots && self.eager_sent - self.eager_completed < slots;
        // The processor does not read the GPU's memory.
        let readable = memory.is_none_or(|memory| !memory.is_gpu());
        if !(small && free && readable && self.connected.lanes[0].has_room(2)) {
            return Ok(false);
        }
        let length = bytes as usize;
        let staging = Slot::of(layout::sender::STAGING, self.eager_sent, self.eager_bytes);
        if length > 0 {
            // SAFETY: the core keeps the buffer, unchanged, until the request is complete.
            let payload = unsafe { std::slice::from_raw_parts(data, length) };
            self.connected.arena.write(staging.payload(length), payload);
        }
        let record = EagerRecord { tag, bytes: bytes as u32, index };
        self.connected.arena.write(staging.record, bytemuck::bytes_of(&record));

        let there = Slot::of(layout::receiver::SLOTS, self.eager_sent, self.eager_bytes);
        let (from, to) = (staging.payload(length), self.connected.remote(there.payload(length)));
        let port = self.connected.port;
        let body = staging.record + RECORD_BYTES - from;
        let body = WorkRequest::write(&self.connected.region, from, body, to);
        let flag = WorkRequest::write_inline(self.eager_sent + 1, self.connected.remote(there.flag));
        let name = |place| Name { kind: Kind::Eager, lane: 0, request, place }.encode();
        let queue = &mut self.connected.lanes[0];
        body.and_then(|body| queue.post([body, flag], name)).map_err(|error| failure(port, &error))?;
        self.eager_sent += 1;
        self.outstanding[request] = Outstanding { parts: 1, bytes, _memory: None };
        Ok(true)
    }

    /// Takes in what the NIC has completed; `finished` is told every request that is, and its size.
    pub(crate) fn progress(&mut self, mut finished: impl FnMut(usize, u64)) -> Result<(), Failure> {
        while self.reap(&mut finished)? == COMPLETIONS {}
        self.watch()
    }

    fn reap(&mut self, finished: &mut impl FnMut(usize, u64)) -> Result<usize, Failure> {
        let mut broken = None;
        let Self { control, connected, outstanding, eager_completed, .. } = self;
        let lanes = &mut connected.lanes;
        let count = connected.completions.poll::<COMPLETIONS>(|completion| {
            if !completion.succeeded() {
                // The first failure is the cause; those behind it are only flushed.
                broken.get_or_insert(completion);
                return;
            }
            let Name { kind, lane, request, place } = Name::decode(completion.id);
            lanes[lane].complete(place);
            *eager_completed += u64::from(kind == Kind::Eager);
            let waiting = &mut outstanding[request];
            waiting.parts -= 1;
            if waiting.parts == 0 {
                finished(request, std::mem::take(waiting).bytes);
            }
        });
        let port = connected.port;
        let count = count.map_err(|error| failure(port, &error))?;
        match broken {
            Some(completion) => Err(failed(control, port, &connected.completions.explain(&completion))),
            None => Ok(count),
        }
    }

    /// A peer that has gone answers no more, which its NIC tells late or, when nothing is on its way, never.
    fn watch(&mut self) -> Result<(), Failure> {
        self.control.now_and_then();
        self.control.lost().map_or(Ok(()), |cause| Err(Failure::Lost(cause.to_owned())))
    }
}
