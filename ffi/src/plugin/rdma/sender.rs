//! The sending half of an RDMA connection.

use std::sync::Arc;

use halo_verbs::{Error, Remote, WorkRequest};

use super::immediate::Immediate;
use super::lane::{Kind, Name};
use super::layout;
use super::rail::Rail;
use super::ring::Ring;
use super::{Connected, ended, failed, failure, give_up};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::memory::{Memory, Regions};
use crate::plugin::comm::{Failure, Outgoing};
use crate::plugin::protocol::{Announcement, EAGER_SLOTS, MAX_POSTED, Striping};

/// Completions taken per look.
const COMPLETIONS: usize = 16;
/// After so many eager messages in a row the receiver need not announce.
const QUIET_AFTER: u32 = 16;

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
    eager_in_a_row: u32,
    /// Whether the receiver has been told not to announce.
    quiet: bool,
    outstanding: Vec<Outstanding>,
}

/// What of a request is not complete.
#[derive(Debug, Default)]
struct Outstanding {
    parts: usize,
    bytes: u64,
    /// Keeps the memory registered.
    _memory: Option<Arc<Regions>>,
}

impl Sender {
    pub(crate) fn new(
        control: Control,
        connected: Connected,
        eager_bytes: usize,
        striping: Striping,
    ) -> Self {
        Self {
            control: control.silent(),
            ring: Ring::new(Arc::clone(&connected.arena)),
            connected,
            striping,
            eager_bytes,
            turn: 0,
            eager_sent: 0,
            eager_in_a_row: 0,
            quiet: false,
            outstanding: (0..MAX_POSTED).map(|_| Outstanding::default()).collect(),
        }
    }

    /// Puts a message on its way; false when its receive is not known yet and it cannot go without, or a queue is full.
    pub(crate) fn post(&mut self, message: &Outgoing<'_>) -> Result<bool, Failure> {
        self.try_post(message).inspect_err(|failure| give_up(&mut self.control, failure))
    }

    fn try_post(&mut self, message: &Outgoing<'_>) -> Result<bool, Failure> {
        let (index, told) = self.ring.next(message.tag)?;
        let small = message.bytes <= self.eager_bytes as u64 && self.eager_bytes > 0;
        let slot_free = self.eager_sent - self.ring.credit(self.eager_sent)? < EAGER_SLOTS as u64;
        let eager = u16::try_from(message.tag).ok().filter(|_| small && slot_free);
        self.hush(eager.is_some())?;
        let posted = match (eager, told) {
            (Some(tag), _) => self.write_eagerly(message, Immediate::eager(tag, index))?,
            (None, Some(told)) => self.write(message, &told)?,
            (None, None) => false,
        };
        if posted {
            self.ring.gone(message.tag, index);
        } else {
            self.watch()?;
        }
        Ok(posted)
    }

    /// Tells the receiver whether it may be quiet, when that has changed: announcements are in vain while messages go
    /// `eager`ly, and sought as soon as one does not.
    fn hush(&mut self, eager: bool) -> Result<(), Failure> {
        self.eager_in_a_row = if eager { self.eager_in_a_row.saturating_add(1) } else { 0 };
        let quiet = self.eager_in_a_row > QUIET_AFTER;
        if quiet == self.quiet || !self.connected.lanes[0].has_room(1) {
            return Ok(());
        }
        let word = self.connected.remote(0, layout::receiver::QUIET);
        let word = WorkRequest::write_inline(u64::from(quiet), word);
        let name = |place| Name { kind: Kind::Told, lane: 0, request: 0, place }.encode();
        let port = self.connected.rail(0).port;
        self.connected.lanes[0].post_quietly([word], name).map_err(|error| failure(port, &error))?;
        self.quiet = quiet;
        Ok(())
    }

    /// Straight into the receive.
    fn write(&mut self, message: &Outgoing<'_>, told: &Announcement) -> Result<bool, Failure> {
        let Outgoing { tag, bytes, .. } = *message;
        if bytes > told.room {
            return Err(Failure::Truncation { tag, bytes, room: told.room });
        }
        let (parts, lanes, turn) =
            (self.striping.parts(bytes).count(), self.connected.lanes.len(), self.turn);
        // Messages find their receives by place, so it does not matter which lane brings them.
        let lane_of = |part: usize| (turn + part) % lanes;
        if (0..parts).any(|part| !self.connected.lanes[lane_of(part)].has_room(1)) {
            return Ok(false);
        }
        let immediate = Immediate::part(told.slot, told.generation, parts);
        for (part, (offset, length)) in self.striping.parts(bytes).enumerate() {
            let lane = lane_of(part);
            let key = told.keys[self.connected.lanes[lane].their_rail];
            let to = Remote { address: told.address.wrapping_add(offset), key };
            self.put(lane, message, (offset, length), to, immediate)?;
        }
        self.turn = lane_of(parts);
        self.note(message, parts);
        Ok(true)
    }

    /// Into one of the receiver's slots.
    fn write_eagerly(&mut self, message: &Outgoing<'_>, immediate: Immediate) -> Result<bool, Failure> {
        if !self.connected.lanes[0].has_room(1) {
            return Ok(false);
        }
        let slot = self.connected.remote(0, layout::receiver::slot(self.eager_sent, self.eager_bytes));
        // All on one lane: they come in the order of their slots.
        self.put(0, message, (0, message.bytes), slot, immediate)?;
        self.eager_sent += 1;
        self.note(message, 1);
        Ok(true)
    }

    /// Posts one write: `length` bytes at `offset` of the message.
    fn put(
        &mut self,
        lane: usize,
        message: &Outgoing<'_>,
        (offset, length): (u64, u64),
        to: Remote,
        immediate: Immediate,
    ) -> Result<(), Failure> {
        let Outgoing { request, data, memory, .. } = *message;
        let write = match memory.and_then(Memory::regions).filter(|_| length > 0) {
            Some(regions) => {
                let region = regions.at(self.connected.lanes[lane].rail);
                let from = (data as u64 - region.address() + offset) as usize;
                WorkRequest::write(region, from, length as usize, to)
            }
            // The address of an empty receive need not be memory.
            None => Ok(WorkRequest::empty(self.connected.remote(lane, 0))),
        };
        let name = |place| Name { kind: Kind::Part, lane, request, place }.encode();
        let queue = &mut self.connected.lanes[lane];
        let posted: Result<(), Error> =
            write.and_then(|write| queue.post([write.with_immediate(immediate.encode())], name));
        posted.map_err(|error| failure(self.connected.rail(lane).port, &error))
    }

    fn note(&mut self, message: &Outgoing<'_>, parts: usize) {
        let memory = message.memory.and_then(Memory::regions).cloned();
        self.outstanding[message.request] = Outstanding { parts, bytes: message.bytes, _memory: memory };
    }

    /// Takes in what the NIC has completed; `finished` is told every request that is, and its size.
    pub(crate) fn progress(&mut self, mut finished: impl FnMut(usize, u64)) -> Result<(), Failure> {
        self.try_progress(&mut finished).inspect_err(|failure| give_up(&mut self.control, failure))
    }

    fn try_progress(&mut self, finished: &mut impl FnMut(usize, u64)) -> Result<(), Failure> {
        for rail in 0..self.connected.rails.len() {
            while self.reap(rail, finished)? == COMPLETIONS {}
        }
        self.watch()
    }

    fn reap(&mut self, rail: usize, finished: &mut impl FnMut(usize, u64)) -> Result<usize, Failure> {
        let mut broken = None;
        let Self { control, connected, outstanding, .. } = self;
        let (lanes, Rail { port, completions, .. }) = (&mut connected.lanes, &connected.rails[rail]);
        let count = completions.poll::<COMPLETIONS>(|completion| {
            if !completion.succeeded() {
                // The first failure is the cause; those behind it are only flushed.
                broken.get_or_insert(completion);
                return;
            }
            let Name { kind, lane, request, place } = Name::decode(completion.id);
            lanes[lane].complete(place);
            if kind != Kind::Part {
                return;
            }
            let waiting = &mut outstanding[request];
            waiting.parts -= 1;
            if waiting.parts == 0 {
                finished(request, std::mem::take(waiting).bytes);
            }
        });
        let count = count.map_err(|error| failure(port, &error))?;
        match broken {
            Some(completion) => Err(failed(control, port, &completions.explain(&completion))),
            None => Ok(count),
        }
    }

    /// A peer that has gone answers no more, which its NIC tells late or, when nothing is on its way, never.
    fn watch(&mut self) -> Result<(), Failure> {
        if self.control.now_and_then() {
            self.connected.watch_ports()?;
        }
        self.control.lost().map_or(Ok(()), |cause| Err(ended(&self.connected, cause)))
    }
}
