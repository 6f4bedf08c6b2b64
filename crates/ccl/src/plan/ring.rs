//! An all-reduce around a ring: each rank sends to the next one and hears the one before it, and no other link carries a
//! byte. A share begins with the rank behind its owner and gathers every rank's part of it on its way to the owner, who
//! finishes it; then it goes around once more, as it is. So all ranks have the same bits, summed in the order of the ring.
//!
//! All ranks send the same sequence of messages, of which only the share differs, so none needs to say which it is: steps of
//! a group of chunks, then those of the next group. Message i is sent when message i - (chunks of the group) has come. No
//! more than half the slots are ever on their way for each rank, all around, so some rank always has room to go on.

use std::ops::Range;

use halo_fabric::{Fabric, Tag};

use super::{Chunks, Message, Parts, PerRank, Plan, PlanError, Progress, expected};
use crate::reduce::{Arithmetic, Partial, Source, finish, join};

#[derive(Debug)]
pub(crate) struct Ring<'a> {
    tag: Tag,
    arithmetic: Arithmetic,
    rank: usize,
    world: usize,
    /// This rank's input; `None` when it lies in `output`.
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    shares: Parts,
    /// Bytes of elements in a chunk, and chunks of a share: as many of each, so that the last ones may be empty.
    chunk: usize,
    chunks: usize,
    /// Chunks of a group.
    group: usize,
    /// Messages in all, either way.
    messages: usize,
    sent: usize,
    received: usize,
    lent: bool,
    /// Where a partial result is made.
    scratch: Vec<u8>,
}

/// One message of the sequence.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Of 2 (ranks - 1): in the first half the shares are reduced.
    step: usize,
    chunk: usize,
    /// This many messages before it, the same chunk was in the step before.
    width: usize,
}

impl<'a> Ring<'a> {
    /// Messages carry up to `chunk` bytes. `scratch` is given back by [`Ring::into_scratch`].
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        arithmetic: Arithmetic,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
        chunk: usize,
        mut scratch: Vec<u8>,
    ) -> Self {
        let (rank, world) = (fabric.rank(), fabric.world());
        let shares = Parts::shares(output.len(), world);
        let message = chunk.min(fabric.slot_bytes());
        // A whole number of elements, since only narrow ones are widened.
        let chunk = message / arithmetic.widening();
        let chunks = Chunks::new(shares.of(0).unwrap_or_default(), chunk).count();
        if scratch.len() < message {
            scratch.resize(message, 0);
        }
        Self {
            tag,
            arithmetic,
            rank,
            world,
            input,
            output,
            shares,
            chunk,
            chunks,
            group: (fabric.slots() / 2).max(1),
            messages: 2 * (world - 1) * chunks,
            sent: 0,
            received: 0,
            lent: false,
            scratch,
        }
    }

    /// The memory that was lent.
    pub(crate) fn into_scratch(self) -> Vec<u8> {
        self.scratch
    }

    fn next(&self) -> usize {
        (self.rank + 1) % self.world
    }

    fn previous(&self) -> usize {
        (self.rank + self.world - 1) % self.world
    }

    fn turn(&self, message: usize) -> Turn {
        let group_messages = self.group * 2 * (self.world - 1);
        let (group, within) = (message / group_messages, message % group_messages);
        let width = self.group.min(self.chunks - group * self.group);
        Turn { step: within / width, chunk: group * self.group + within % width, width }
    }

    /// The message in which this rank's own input of a chunk went.
    fn first_message(&self, chunk: usize) -> usize {
        let group = chunk / self.group;
        group * self.group * 2 * (self.world - 1) + chunk % self.group
    }

    /// What `rank` sends in a turn, as part of the buffer.
    fn part(&self, rank: usize, turn: Turn) -> Range<usize> {
        let share = (rank + 2 * self.world - 1 - turn.step) % self.world;
        let share = self.shares.of(share).unwrap_or_default();
        let start = (share.start + turn.chunk * self.chunk).min(share.end);
        start..(start + self.chunk).min(share.end)
    }

    /// What has come in a turn of the first half, of elements that take `bytes` bytes.
    fn partial<'m, F: Fabric>(
        &self,
        fabric: &'m F,
        turn: Turn,
        bytes: usize,
    ) -> Result<Option<Partial<'m>>, PlanError> {
        let widening = if turn.step == 0 { 1 } else { self.arithmetic.widening() };
        let peer = self.previous();
        let Some(message) = expected(fabric, peer, self.tag, bytes * widening)? else { return Ok(None) };
        let Message { payload, placed, .. } = message;
        if placed.is_some() {
            // Only whole results may be written to their place.
            return Err(PlanError::WrongLength { peer, given: 0, expected: bytes * widening });
        }
        Ok(Some(if widening == 1 { Partial::Elements(payload) } else { Partial::Wide(payload) }))
    }

    /// Sends the next message, if it can be made now.
    fn send<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        if self.sent == self.messages {
            return Ok(false);
        }
        let (turn, next) = (self.turn(self.sent), self.next());
        // The first step of a group begins when the group before it has come home.
        let before = if turn.step == 0 { self.group } else { turn.width };
        let relays = (1..self.world - 1).contains(&turn.step);
        let due =
            if relays { self.received + before == self.sent } else { self.received + before > self.sent };
        if !due || !fabric.can_send(next) {
            return Ok(false);
        }
        let part = self.part(self.rank, turn);
        if relays {
            let came = Turn { step: turn.step - 1, ..turn };
            let Some(so_far) = self.partial(fabric, came, part.len())? else { return Ok(false) };
            let partial = &mut self.scratch[..part.len() * self.arithmetic.widening()];
            join(self.arithmetic, so_far, &self.input.unwrap_or(self.output)[part], partial);
            fabric.send(next, self.tag, partial)?;
            fabric.release(self.previous())?;
            self.received += 1;
        } else if turn.step == 0 {
            fabric.refer(next, self.tag, &self.input.unwrap_or(self.output)[part], None)?;
        } else {
            let place = part.start;
            fabric.refer(next, self.tag, &self.output[part], Some(place))?;
        }
        self.sent += 1;
        Ok(true)
    }

    /// Takes in the next message, unless it goes on at once with this rank's part.
    fn receive<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        if self.received == self.messages {
            return Ok(false);
        }
        let (turn, previous) = (self.turn(self.received), self.previous());
        let part = self.part(previous, turn);
        if turn.step + 2 < self.world {
            return Ok(false);
        }
        if turn.step + 2 == self.world {
            let Some(so_far) = self.partial(fabric, turn, part.len())? else { return Ok(false) };
            let own = self.input.map_or(Source::Output, |input| Source::Bytes(&input[part.clone()]));
            finish(self.arithmetic, self.world, so_far, own, &mut self.output[part]);
        } else {
            if !self.overwritable(fabric, turn) {
                return Ok(false);
            }
            let Some(message) = expected(fabric, previous, self.tag, part.len())? else { return Ok(false) };
            if message.placed.is_none() {
                self.output[part].copy_from_slice(message.payload);
            }
        }
        fabric.release(previous)?;
        self.received += 1;
        Ok(true)
    }

    /// Whether what a result replaces has been read. It has, since the result is made of it; but a NIC may not have said so.
    fn overwritable<F: Fabric>(&self, fabric: &F, turn: Turn) -> bool {
        let was_sent = self.input.is_none() && turn.step + 1 == self.world;
        !was_sent || self.sent - fabric.unread(self.next()) as usize > self.first_message(turn.chunk)
    }
}

impl Plan for Ring<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        if !self.lent {
            // A result comes to a place when all that lay there has gone into it: it may be lent from the beginning.
            fabric.lend(self.previous(), self.tag, self.output)?;
            self.lent = true;
        }
        let sent = self.send(fabric)?;
        let received = self.receive(fabric)?;
        if self.received == self.messages {
            if received {
                fabric.take_back(self.previous());
            }
            if self.sent == self.messages && fabric.unread(self.next()) == 0 {
                return Ok(Progress::Done);
            }
        }
        Ok(if sent || received { Progress::Moved } else { Progress::Idle })
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        let mut peers = PerRank::new();
        if self.received < self.messages {
            peers.push(self.previous());
        }
        if self.sent < self.messages || fabric.unread(self.next()) > 0 {
            peers.push(self.next());
        }
        peers.dedup();
        peers
    }
}
