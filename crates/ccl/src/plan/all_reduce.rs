//! The all-reduce of large buffers: each rank reduces its share, and passes the result on chunk by chunk, as soon as there is
//! one, while inputs still travel. So links carry bytes from the beginning to the end.
//!
//! Between two ranks inputs and results follow each other in an order that both know ([`Order`]). A rank that waits for
//! room, or for a result of its own, has sent what others need for earlier chunks; so somebody can always go on.

use halo_fabric::{Fabric, Tag};

use super::{Chunks, Parts, PerRank, Plan, PlanError, Progress, all_read, counts, expected, others};
use crate::reduce::{Arithmetic, Source, reduce};

/// Inputs are so many chunks ahead of results: half the slots that there are unless somebody says else, which covers the
/// time from an input's departure to its result.
const AHEAD: usize = 4;

/// What a message brings, by its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// The sender's input to the receiver's share.
    Input(usize),
    /// The result of the sender's share.
    Result(usize),
}

/// The messages from one rank to another.
#[derive(Debug, Clone, Copy)]
struct Order {
    inputs: usize,
    results: usize,
}

impl Order {
    fn count(self) -> usize {
        self.inputs + self.results
    }

    /// The message at a place: the first inputs, then a result and an input by turns, then what is left of either.
    fn at(self, place: usize) -> Load {
        let ahead = AHEAD.min(self.inputs);
        let turns = self.results.min(self.inputs - ahead);
        match place.checked_sub(ahead) {
            None => Load::Input(place),
            Some(behind) if behind >= 2 * turns => {
                if turns < self.results {
                    Load::Result(behind - turns)
                } else {
                    Load::Input(place - turns)
                }
            }
            Some(behind) if behind % 2 == 0 => Load::Result(behind / 2),
            Some(behind) => Load::Input(ahead + behind / 2),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ReduceAndShare<'a> {
    tag: Tag,
    arithmetic: Arithmetic,
    rank: usize,
    chunk: usize,
    /// This rank's input; `None` when it lies in `output`.
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    parts: Parts,
    /// Chunks of each rank's share.
    counts: PerRank<u32>,
    /// Messages sent to each rank.
    sent: PerRank<u32>,
    /// Messages taken from each rank.
    taken: PerRank<u32>,
    /// Chunks of this rank's share that are reduced.
    reduced: usize,
    /// Whether the peers know of the output.
    lent: bool,
}

impl<'a> ReduceAndShare<'a> {
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        arithmetic: Arithmetic,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
    ) -> Self {
        let (rank, world, chunk) = (fabric.rank(), fabric.world(), fabric.slot_bytes());
        let parts = Parts::shares(output.len(), world);
        let (sent, taken, reduced, lent) = (counts(world), counts(world), 0, false);
        let shares = (0..world).map(|rank| parts.of(rank).unwrap_or_default());
        let counts = shares.map(|share| Chunks::new(share, chunk).count() as u32).collect();
        Self { tag, arithmetic, rank, chunk, input, output, parts, counts, sent, taken, reduced, lent }
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        others(self.rank, self.sent.len())
    }

    /// The chunks of a rank's share.
    fn chunks(&self, rank: usize) -> Chunks {
        Chunks::new(self.parts.of(rank).unwrap_or_default(), self.chunk)
    }

    /// The messages from one rank to another.
    fn order(&self, from: usize, to: usize) -> Order {
        Order { inputs: self.counts[to] as usize, results: self.counts[from] as usize }
    }

    fn next_to_send(&self, peer: usize) -> Option<Load> {
        let (order, sent) = (self.order(self.rank, peer), self.sent[peer] as usize);
        (sent < order.count()).then(|| order.at(sent))
    }

    fn next_to_take(&self, peer: usize) -> Option<Load> {
        let (order, taken) = (self.order(peer, self.rank), self.taken[peer] as usize);
        (taken < order.count()).then(|| order.at(taken))
    }

    /// A peer's result is made of this rank's input to it. So where it comes in place of that input, the input has been read
    /// and will not be needed again.
    fn lend<F: Fabric>(&mut self, fabric: &mut F) -> Result<(), PlanError> {
        for peer in self.peers() {
            let share = self.chunks(peer).range;
            fabric.lend(peer, self.tag, &mut self.output[share])?;
        }
        self.lent = true;
        Ok(())
    }

    /// Sends the next message to every peer that has room for it.
    fn send<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        let mut moved = false;
        for peer in self.peers() {
            match self.next_to_send(peer) {
                Some(Load::Input(index)) if fabric.can_send(peer) => {
                    let bytes = self.chunks(peer).get(index);
                    match self.input {
                        Some(input) => fabric.refer(peer, self.tag, &input[bytes], None)?,
                        // In place, two ranks that read each other's input would wait for each other.
                        None => fabric.pass(peer, self.tag, &self.output[bytes], None)?,
                    }
                }
                Some(Load::Result(index)) if index < self.reduced && fabric.can_send(peer) => {
                    let bytes = self.chunks(self.rank).get(index);
                    fabric.refer(peer, self.tag, &self.output[bytes], Some(index * self.chunk))?;
                }
                _ => continue,
            }
            self.sent[peer] += 1;
            moved = true;
        }
        Ok(moved)
    }

    /// Takes in a result from every peer that has one here.
    fn take_results<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        let mut moved = false;
        for peer in self.peers() {
            let Some(Load::Result(index)) = self.next_to_take(peer) else { continue };
            let bytes = self.chunks(peer).get(index);
            let Some(message) = expected(fabric, peer, self.tag, bytes.len())? else { continue };
            if message.placed.is_none() {
                self.output[bytes].copy_from_slice(message.payload);
            }
            fabric.release(peer)?;
            self.taken[peer] += 1;
            if index + 1 == self.counts[peer] as usize {
                fabric.take_back(peer);
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Reduces the next chunk if every rank's input to it is here.
    fn reduce<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        if self.reduced == self.counts[self.rank] as usize {
            return Ok(false);
        }
        let own = self.chunks(self.rank).get(self.reduced);
        let mut sources = PerRank::new();
        for rank in 0..self.sent.len() {
            if rank == self.rank {
                sources.push(self.input.map_or(Source::Output, |input| Source::Bytes(&input[own.clone()])));
                continue;
            }
            if self.next_to_take(rank) != Some(Load::Input(self.reduced)) {
                return Ok(false);
            }
            match expected(fabric, rank, self.tag, own.len())? {
                Some(message) => sources.push(Source::Bytes(message.payload)),
                None => return Ok(false),
            }
        }
        reduce(self.arithmetic, &sources, &mut self.output[own]);
        drop(sources);
        self.reduced += 1;
        for peer in self.peers() {
            fabric.release(peer)?;
            self.taken[peer] += 1;
        }
        Ok(true)
    }
}

impl Plan for ReduceAndShare<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        if !self.lent {
            self.lend(fabric)?;
        }
        let sent = self.send(fabric)?;
        let taken = self.take_results(fabric)?;
        let reduced = self.reduce(fabric)?;
        if sent || taken || reduced {
            return Ok(Progress::Moved);
        }
        let is_whole = |peer| self.next_to_send(peer).is_none() && self.next_to_take(peer).is_none();
        let done = self.peers().all(is_whole) && all_read(fabric, self.peers());
        Ok(if done { Progress::Done } else { Progress::Idle })
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        let has_no_room = |peer: usize| match self.next_to_send(peer) {
            Some(Load::Input(_)) => true,
            Some(Load::Result(index)) => index < self.reduced,
            None => false,
        };
        let is_unheard =
            |peer: usize| self.next_to_take(peer).is_some() && matches!(fabric.head(peer), Ok(None));
        let is_unread = |peer: usize| fabric.unread(peer) > 0;
        self.peers().filter(|peer| has_no_room(*peer) || is_unheard(*peer) || is_unread(*peer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_order_has_every_message_once_and_no_result_before_what_it_is_made_of(
            inputs in 1usize..20,
            results in 1usize..20,
        ) {
            let order = Order { inputs, results };
            let all: Vec<Load> = (0..order.count()).map(|place| order.at(place)).collect();
            let place = |load| all.iter().position(|other| *other == load);
            // As soon as may be, and not before.
            prop_assert_eq!(place(Load::Result(0)), Some(AHEAD.min(inputs)), "{:?}", all);
            for index in 0..inputs {
                prop_assert!(place(Load::Input(index)).is_some(), "{:?}", all);
            }
            for index in 0..results {
                let at = place(Load::Result(index));
                prop_assert!(at.is_some(), "{:?}", all);
                // Where the peer has chunks of the same number, it gets its input before it is asked to wait for this.
                prop_assert!(index >= inputs || place(Load::Input(index)) < at, "{:?}", all);
            }
            let in_order = |index: usize| [Load::Input(index), Load::Result(index)].map(place);
            for pair in (0..inputs.max(results)).map(in_order).collect::<Vec<_>>().windows(2) {
                prop_assert!((0..2).all(|kind| pair[1][kind].is_none() || pair[0][kind] < pair[1][kind]), "{:?}", all);
            }
        }
    }
}
