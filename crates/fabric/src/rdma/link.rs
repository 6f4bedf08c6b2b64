//! A link over one queue pair.

use std::sync::Arc;

use halo_verbs::{MemoryRegion, QueuePair, Remote, WorkRequest};

use crate::arena::Arena;
use crate::layout::{FLAG_IN_TRAILER, LINE, Layout};
use crate::link::{Alarm, Link, LinkFailure};
use crate::message::Outgoing;

/// Completions taken per look; more are left for the next.
const COMPLETIONS: usize = 16;

/// A link over one queue pair.
#[derive(Debug)]
pub(crate) struct RdmaLink {
    rank: usize,
    peer: usize,
    layout: Layout,
    pair: QueuePair,
    region: Arc<MemoryRegion>,
    /// The peer's arena.
    remote: Remote,
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
        region: Arc<MemoryRegion>,
        remote: Remote,
    ) -> Self {
        Self { rank, peer, layout, pair, region, remote, posted: 0, completed: 0, signaled: 0 }
    }

    fn remote_at(&self, offset: usize) -> Remote {
        Remote { address: self.remote.address + offset as u64, ..self.remote }
    }

    /// A write of `bytes` bytes at `from` of this arena to `to` of the peer's.
    fn write_from(&self, from: usize, bytes: usize, to: usize) -> Result<WorkRequest, LinkFailure> {
        let remote = self.remote_at(to);
        WorkRequest::write(&self.region, from, bytes, remote).map_err(|error| error.to_string())
    }

    fn post<const N: usize>(&mut self, mut requests: [WorkRequest; N]) -> Result<(), LinkFailure> {
        self.account(&mut requests);
        self.pair.post(&requests).map_err(|error| error.to_string())
    }

    /// Asks for a completion often enough that the queue never fills with requests nobody will hear of.
    fn account<const N: usize>(&mut self, requests: &mut [WorkRequest; N]) {
        self.posted += N as u64;
        if self.posted - self.signaled >= u64::from(Self::queue_depth(self.layout)) / 4 {
            self.signaled = self.posted;
            requests[N - 1] = requests[N - 1].signaled(self.posted);
        }
    }

    fn reap(&mut self) -> Result<(), LinkFailure> {
        let mut failure = None;
        let completed = &mut self.completed;
        let completions = self.pair.completions();
        let count = completions.poll::<COMPLETIONS>(|completion| {
            if completion.succeeded() {
                *completed = (*completed).max(completion.id);
            } else {
                // The first failure is the cause; those behind it are only flushed.
                failure.get_or_insert(completion);
            }
        });
        count.map_err(|error| error.to_string())?;
        failure.map_or(Ok(()), |failure| Err(completions.explain(&failure).to_string()))
    }
}

impl Link for RdmaLink {
    fn ready(&mut self) -> bool {
        // Two for a message, one for a credit that may come before the next look.
        self.posted - self.completed + 3 <= u64::from(Self::queue_depth(self.layout))
    }

    fn write(&mut self, arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        let slot = self.layout.slot(self.peer, self.rank, message.number);
        let staging = self.layout.staging(self.rank, self.peer, message.number);
        let (trailer, header) = (staging + self.layout.slot_bytes, message.header());
        arena.write_header(trailer, &header);
        arena.store(trailer + FLAG_IN_TRAILER, header.checked_flag(message.number));
        let trailer = self.write_from(trailer, LINE, slot + self.layout.slot_bytes)?.inlined();
        if message.is_short() {
            return self.post([trailer]);
        }
        arena.write(staging, message.payload);
        let payload = self.write_from(staging, message.payload.len(), slot)?;
        self.post([payload, trailer])
    }

    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        let line = self.remote_at(self.layout.credit(self.peer, self.rank));
        self.post([WorkRequest::write_inline(consumed, line)])
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
