//! One rail of a link: a queue pair over one NIC port, and the count of what was posted there.

use halo_verbs::{MemoryRegion, QueuePair, Remote, WorkRequest};

use super::memory::Memory;
use super::regions::{Parts, Regions};
use crate::link::LinkFailure;

/// Completions taken per look; more are left for the next.
const COMPLETIONS: usize = 16;

/// The peer's arena, as its NIC addresses it.
#[derive(Debug)]
pub(super) struct RemoteArena {
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

/// One rail.
#[derive(Debug)]
pub(super) struct Rail {
    pair: QueuePair,
    /// Which of this rank's ports it uses.
    port: usize,
    remote: RemoteArena,
    /// Work requests that the queue holds.
    depth: u64,
    /// Work requests posted, and how many of them are known to be complete.
    posted: u64,
    completed: u64,
    /// Work requests posted when a completion was last asked for.
    signaled: u64,
}

impl Rail {
    pub(super) fn new(pair: QueuePair, port: usize, remote: RemoteArena, depth: u32) -> Self {
        let (posted, completed, signaled) = (0, 0, 0);
        Self { pair, port, remote, depth: u64::from(depth), posted, completed, signaled }
    }

    pub(super) fn port(&self) -> usize {
        self.port
    }

    /// Whether that port is not up now: a system call.
    pub(super) fn port_is_down(&self) -> bool {
        self.pair.port_is_down()
    }

    /// The number of the work request that was posted last.
    pub(super) fn posted(&self) -> u64 {
        self.posted
    }

    /// All work requests up to this number are known to be complete.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// Room for a message, which takes two work requests, and for a credit that may come before the next look.
    pub(super) fn has_room(&self) -> bool {
        self.posted - self.completed + 3 <= self.depth
    }

    /// Whether everything is complete of which a completion was asked for.
    pub(super) fn is_flushed(&self) -> bool {
        self.completed == self.signaled
    }

    /// A place in the peer's arena.
    pub(super) fn at(&self, offset: usize, bytes: usize) -> Result<Remote, LinkFailure> {
        self.remote.at(offset, bytes)
    }

    /// A write of `bytes` bytes at `from` of registered memory.
    pub(super) fn write(
        &self,
        memory: &Memory,
        from: usize,
        bytes: usize,
        to: Remote,
    ) -> Result<WorkRequest, LinkFailure> {
        let Some((start, region)) = memory.at_port(self.port).holding(from, bytes) else {
            return Err(format!("{bytes} bytes at {from} are in no registered part"));
        };
        WorkRequest::write(region, from - start, bytes, to).map_err(|error| error.to_string())
    }

    pub(super) fn post<const N: usize>(
        &mut self,
        mut requests: [WorkRequest; N],
        told: bool,
    ) -> Result<(), LinkFailure> {
        self.account(&mut requests, told);
        self.pair.post(&requests).map_err(|error| error.to_string())
    }

    /// Asks for a completion where somebody wants to be told, and else often enough that the queue never fills with
    /// requests nobody will hear of.
    fn account<const N: usize>(&mut self, requests: &mut [WorkRequest; N], told: bool) {
        self.posted += N as u64;
        if told || self.posted - self.signaled >= self.depth / 4 {
            self.signaled = self.posted;
            requests[N - 1] = requests[N - 1].signaled(self.posted);
        }
    }

    /// Takes in completions.
    pub(super) fn reap(&mut self) -> Result<(), LinkFailure> {
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
