//! Plans: what one rank does in one operation, as a state machine over any [`Fabric`]. A plan never waits; its driver
//! calls [`Plan::step`] until it is done. The simulated fabric runs the same code as the real one.
//!
//! Every buffer travels in chunks of at most one slot, at least one even when it is empty, so that ranks in different
//! operations notice each other.

mod all_reduce;
mod doubling;
mod exchange;
mod model;
mod parts;
mod reduce;
mod ring;
mod table;
mod transfer;

use std::ops::Range;

use halo_fabric::{Fabric, FabricError, Message, Tag};
use smallvec::SmallVec;

pub(crate) use all_reduce::ReduceAndShare;
pub(crate) use doubling::Doubling;
pub(crate) use exchange::Exchange;
pub use model::{Costs, Exercise};
pub(crate) use parts::Parts;
pub(crate) use reduce::Reduce;
pub(crate) use ring::Ring;
pub(crate) use table::Choices;
pub use table::{Algorithm, PlanTable, Rule};
pub(crate) use transfer::Transfer;

/// Per-rank state that stays off the heap up to 16 ranks.
pub(crate) type PerRank<T> = SmallVec<[T; 16]>;

/// A count for every rank, none so far.
fn counts(world: usize) -> PerRank<u32> {
    let few = [0; 16];
    if world <= few.len() { PerRank::from_buf_and_len(few, world) } else { PerRank::from_elem(0, world) }
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The operation is complete on this rank.
    Done,
    /// Something moved; more may at once.
    Moved,
    /// Nothing can move until a peer acts.
    Idle,
}

/// Why a plan cannot go on.
#[derive(Debug)]
pub(crate) enum PlanError {
    Fabric(FabricError),
    /// This peer's message belongs to another operation.
    Mismatch {
        peer: usize,
        theirs: Tag,
    },
    /// This peer's message has another length than its operation says.
    WrongLength {
        peer: usize,
        given: usize,
        expected: usize,
    },
}

impl From<FabricError> for PlanError {
    fn from(error: FabricError) -> Self {
        Self::Fabric(error)
    }
}

/// One rank's part in one operation.
pub(crate) trait Plan {
    /// Does what can be done now.
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError>;

    /// The peers this rank waits for.
    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize>;
}

/// A run of bytes cut into chunks of one slot.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    range: Range<usize>,
    chunk: usize,
}

impl Chunks {
    fn new(range: Range<usize>, chunk: usize) -> Self {
        Self { range, chunk }
    }

    fn count(&self) -> usize {
        // Most operations are one chunk, and a division takes as long as a cache miss.
        if self.range.len() <= self.chunk { 1 } else { self.range.len().div_ceil(self.chunk) }
    }

    fn get(&self, index: usize) -> Range<usize> {
        let start = self.range.start + index * self.chunk;
        start..(start + self.chunk).min(self.range.end)
    }
}

/// The other ranks, beginning with the next one: if all began with rank 0, it would take in everybody's bytes while the
/// ports of the others stood idle.
#[inline]
fn others(rank: usize, world: usize) -> impl Iterator<Item = usize> {
    (1..world).map(move |step| if rank + step < world { rank + step } else { rank + step - world })
}

/// The oldest message from `peer`, if it has come, checked to be `length` bytes of the operation `tag`.
fn expected<F: Fabric>(
    fabric: &F,
    peer: usize,
    tag: Tag,
    length: usize,
) -> Result<Option<Message<'_>>, PlanError> {
    let Some(message) = fabric.head(peer)? else { return Ok(None) };
    if message.tag != tag {
        return Err(PlanError::Mismatch { peer, theirs: message.tag });
    }
    let given = message.placed.unwrap_or(message.payload.len());
    if given != length {
        return Err(PlanError::WrongLength { peer, given, expected: length });
    }
    Ok(Some(message))
}

/// Whether everything that was passed has been read: until then the buffers stay as they are.
#[inline]
fn all_read<F: Fabric>(fabric: &F, peers: impl Iterator<Item = usize>) -> bool {
    for peer in peers {
        if fabric.unread(peer) > 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod scaling;
#[cfg(test)]
mod tests;
