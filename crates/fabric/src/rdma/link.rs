//! A link over one queue pair.

use std::collections::VecDeque;
use std::sync::Arc;

use halo_verbs::{MemoryRegion, QueuePair, Remote, WorkRequest};

use super::regions::{Parts, Regions};
use crate::arena::Arena;
use crate::layout::{FLAG_IN_TRAILER, LINE, Layout};
use crate::link::{Alarm, Link, LinkFailure, Source};
use crate::mesh::arrived;
use crate::message::{Header, LEND, Lend, Outgoing};

/// Completions taken per look; more are left for the next.
const COMPLETIONS: usize = 16;

/// The peer's arena, as its NIC addresses it.
#[derive(Debug)]
pub(crate) struct RemoteArena {
    pub(super) address: u64,
    /// The keys of its parts.
    pub(super) keys: Parts<u32>,
}

impl RemoteArena {
    /// What a peer must know of this rank's arena: where it begins, and the keys of its parts.
    pub(super) fn of(regions: &Regions) -> (u64, Vec<(u64, u32)>) {
        let address = regions.holding(0, 0).map_or(0, |(_, first)| first.address());
        (address, regions.map(MemoryRegion::remote_key).into_list())
    }

    fn at(&self, offset: usize, bytes: usize) -> Result<Remote, LinkFailure> {
        let Some((_, key)) = self.keys.holding(offset, bytes) else {
            return Err(format!("{bytes} bytes at {offset} are in no part of the peer's arena"));
        };
        Ok(Remote { address: self.address + offset as u64, key: *key })
    }
}

/// A payload that the NIC may still read where it lies.
#[derive(Debug)]
struct Unread {
    /// Its message.
    number: u64,
    /// The work request whose completion says that it has been read.
    posted: u64,
    /// Keeps the registration.
    _memory: Arc<Regions>,
}

/// Why a link does nothing any more.
const HALTED: &str = "it was halted when the communicator failed";

/// A link over one queue pair.
#[derive(Debug)]
pub(crate) struct RdmaLink {
    rank: usize,
    peer: usize,
    layout: Layout,
    /// None once the link was halted.
    pair: Option<QueuePair>,
    regions: Arc<Regions>,
    remote: RemoteArena,
    /// Payloads written from where they lie, oldest first.
    unread: VecDeque<Unread>,
    /// Keeps the registration of what the peer may write.
    lent: Option<Arc<Regions>>,
    /// Work requests posted, and how many of them are known to be complete.
    posted: u64,
    completed: u64,
    /// Work requests posted when a completion was last asked for.
    signaled: u64,
}

impl RdmaLink {
    /// Work requests that must fit the queue: two per message in flight and one per credit, which the slots bound, and
    /// a quarter of the depth that may be unsignaled. That is five per slot; the rest is for completions not seen yet.
    pub(crate) fn queue_depth(layout: Layout) -> u32 {
        (8 * layout.slots as u32).max(16)
    }

    pub(crate) fn new(
        rank: usize,
        peer: usize,
        layout: Layout,
        pair: QueuePair,
        regions: Arc<Regions>,
        remote: RemoteArena,
    ) -> Self {
        // No operation allocates: each takes two work requests, and the queue holds no more.
        let unread = VecDeque::with_capacity(Self::queue_depth(layout) as usize / 2);
        let (lent, posted, completed, signaled) = (None, 0, 0, 0);
        let pair = Some(pair);
        Self { rank, peer, layout, pair, regions, remote, unread, lent, posted, completed, signaled }
    }

    /// A write of `bytes` bytes at `from` of this arena to `to` of the peer's.
    fn write_from(&self, from: usize, bytes: usize, to: usize) -> Result<WorkRequest, LinkFailure> {
        write(&self.regions, from, bytes, self.remote.at(to, bytes)?)
    }

    fn post<const N: usize>(
        &mut self,
        mut requests: [WorkRequest; N],
        told: bool,
    ) -> Result<(), LinkFailure> {
        self.account(&mut requests, told);
        let pair = self.pair.as_ref().ok_or(HALTED)?;
        pair.post(&requests).map_err(|error| error.to_string())
    }

    /// Asks for a completion where somebody wants to be told, and else often enough that the queue never fills with
    /// requests nobody will hear of.
    fn account<const N: usize>(&mut self, requests: &mut [WorkRequest; N], told: bool) {
        self.posted += N as u64;
        if told || self.posted - self.signaled >= u64::from(Self::queue_depth(self.layout)) / 4 {
            self.signaled = self.posted;
            requests[N - 1] = requests[N - 1].signaled(self.posted);
        }
    }

    fn reap(&mut self) -> Result<(), LinkFailure> {
        let mut failure = None;
        let completed = &mut self.completed;
        let completions = self.pair.as_ref().ok_or(HALTED)?.completions();
        let count = completions.poll::<COMPLETIONS>(|completion| {
            if completion.succeeded() {
                *completed = (*completed).max(completion.id);
            } else {
                // The first failure is the cause; those behind it are only flushed.
                failure.get_or_insert(completion);
            }
        });
        count.map_err(|error| error.to_string())?;
        while self.unread.front().is_some_and(|oldest| oldest.posted <= *completed) {
            self.unread.pop_front();
        }
        failure.map_or(Ok(()), |failure| Err(completions.explain(&failure).to_string()))
    }

    /// Writes the trailer of a message to its staging slot; the request that sends it.
    fn trailer(&self, arena: &Arena, number: u64, header: &Header) -> Result<WorkRequest, LinkFailure> {
        let slot = self.layout.slot(self.peer, self.rank, number);
        let trailer = self.layout.staging(self.rank, self.peer, number) + self.layout.slot_bytes;
        arena.write_header(trailer, header);
        arena.store(trailer + FLAG_IN_TRAILER, header.checked_flag(number));
        Ok(self.write_from(trailer, LINE, slot + self.layout.slot_bytes)?.inlined())
    }

    /// Copies a payload to its staging slot; where it is sent from.
    fn stage(&self, arena: &Arena, message: &Outgoing<'_>) -> usize {
        let staging = self.layout.staging(self.rank, self.peer, message.number);
        arena.write(staging, message.payload);
        staging
    }

    /// Where the peer takes this message's payload directly, if it has lent memory for it.
    fn lent_place(&self, arena: &Arena, message: &Outgoing<'_>, place: usize) -> Option<Remote> {
        let header = arrived(arena, self.layout.lend(self.rank, self.peer), LEND)?;
        let lend = Lend::from_header(&header);
        let taken = lend.takes(message.tag, message.number, place, message.payload.len());
        taken.then(|| Remote { address: lend.address + place as u64, key: lend.key })
    }
}

/// A write of `bytes` bytes at `from` of registered memory.
fn write(regions: &Regions, from: usize, bytes: usize, to: Remote) -> Result<WorkRequest, LinkFailure> {
    let Some((start, region)) = regions.holding(from, bytes) else {
        return Err(format!("{bytes} bytes at {from} are in no registered part"));
    };
    WorkRequest::write(region, from - start, bytes, to).map_err(|error| error.to_string())
}

impl Link for RdmaLink {
    fn ready(&mut self) -> bool {
        // Two for a message, one for a credit that may come before the next look.
        self.posted - self.completed + 3 <= u64::from(Self::queue_depth(self.layout))
    }

    fn write(&mut self, arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        let trailer = self.trailer(arena, message.number, &message.header())?;
        if message.is_short() {
            return self.post([trailer], false);
        }
        let slot = self.layout.slot(self.peer, self.rank, message.number);
        let payload = self.write_from(self.stage(arena, message), message.payload.len(), slot)?;
        self.post([payload, trailer], false)
    }

    fn pass(
        &mut self,
        arena: &Arena,
        message: &Outgoing<'_>,
        source: Option<Source>,
        place: Option<usize>,
    ) -> Result<bool, LinkFailure> {
        let placed = place.and_then(|place| self.lent_place(arena, message, place));
        let source =
            source.filter(|source| source.memory.holding(source.offset, message.payload.len()).is_some());
        if message.is_short() || (placed.is_none() && source.is_none()) {
            self.write(arena, message)?;
            return Ok(false);
        }
        let (bytes, number) = (message.payload.len(), message.number);
        let (header, to) = match placed {
            Some(to) => (message.placed_header(), to),
            None => {
                (message.header(), self.remote.at(self.layout.slot(self.peer, self.rank, number), bytes)?)
            }
        };
        let trailer = self.trailer(arena, number, &header)?;
        let Some(Source { memory, offset }) = source else {
            let payload = write(&self.regions, self.stage(arena, message), bytes, to)?;
            self.post([payload, trailer], false)?;
            return Ok(false);
        };
        let payload = write(&memory, offset, bytes, to)?;
        self.post([payload, trailer], true)?;
        self.unread.push_back(Unread { number, posted: self.posted, _memory: memory });
        Ok(true)
    }

    fn oldest_unread(&self) -> Option<u64> {
        self.unread.front().map(|oldest| oldest.number)
    }

    fn lend(&mut self, arena: &Arena, lend: &Lend, source: &Source) -> Result<(), LinkFailure> {
        let held = source.memory.holding(source.offset, lend.bytes as usize);
        // To lend is an offer: with a full queue, or memory that is in two regions, there is none.
        let Some((_, region)) = held.filter(|_| self.ready()) else { return Ok(()) };
        let header = Lend { key: region.remote_key(), ..*lend }.header();
        let staged = self.layout.staged_lend(self.rank, self.peer);
        arena.write_header(staged, &header);
        arena.store(staged + FLAG_IN_TRAILER, header.checked_flag(LEND));
        let line = self.write_from(staged, LINE, self.layout.lend(self.peer, self.rank))?.inlined();
        self.lent = Some(Arc::clone(&source.memory));
        self.post([line], false)
    }

    fn take_back(&mut self) {
        self.lent = None;
    }

    fn has_lent(&self) -> bool {
        self.lent.is_some()
    }

    fn halt(&mut self) {
        // Without a queue pair there is no connection, and nothing that was posted is done any more.
        self.pair = None;
        self.lent = None;
        self.unread.clear();
    }

    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        let line = self.remote.at(self.layout.credit(self.peer, self.rank), LINE)?;
        self.post([WorkRequest::write_inline(consumed, line)], false)
    }

    fn progress(&mut self, _arena: &Arena, _consumed: u64) -> Result<(), LinkFailure> {
        self.reap()
    }

    fn flushed(&self) -> bool {
        // Unsignaled requests behind the last signaled one are complete when the peer has consumed them, which is what
        // a closing rank waits for by its good-bye.
        self.completed == self.signaled
    }

    fn alarm(&self) -> Alarm<'_> {
        Alarm::None
    }
}
