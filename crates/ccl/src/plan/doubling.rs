//! An all-reduce in log2(ranks) steps: in step k every rank passes on all the inputs it knows, to the rank 2^k before it,
//! and so learns as many from the one 2^k behind (Bruck's all-gather). Then each reduces all inputs, in rank order: the
//! bits are those of every other algorithm. It takes the fewest messages, and as many bytes as one-shot.

use halo_fabric::{Fabric, Tag};

use super::{Chunks, PerRank, Plan, PlanError, Progress, expected};
use crate::reduce::{Arithmetic, Source, reduce};

#[derive(Debug)]
pub(crate) struct Doubling<'a> {
    tag: Tag,
    arithmetic: Arithmetic,
    rank: usize,
    world: usize,
    chunk: usize,
    output: &'a mut [u8],
    /// The inputs known so far, this rank's own first, then those of the ranks behind it.
    known: Vec<u8>,
    /// How many they are when this step begins: the distance to both partners.
    distance: usize,
    sent: usize,
    received: usize,
}

impl<'a> Doubling<'a> {
    /// `scratch` is where inputs are collected; it is given back by [`Doubling::into_scratch`].
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        arithmetic: Arithmetic,
        input: Option<&[u8]>,
        output: &'a mut [u8],
        scratch: Vec<u8>,
    ) -> Self {
        let (rank, world, chunk) = (fabric.rank(), fabric.world(), fabric.slot_bytes());
        let mut known = scratch;
        known.resize(world * output.len(), 0);
        known[..output.len()].copy_from_slice(input.unwrap_or(output));
        Self { tag, arithmetic, rank, world, chunk, output, known, distance: 1, sent: 0, received: 0 }
    }

    /// The memory that was lent.
    pub(crate) fn into_scratch(self) -> Vec<u8> {
        self.known
    }

    /// What this step sends: as much as the partner is still missing.
    fn outgoing(&self) -> Chunks {
        Chunks::new(0..self.step_bytes(), self.chunk)
    }

    fn incoming(&self) -> Chunks {
        let start = self.distance * self.output.len();
        Chunks::new(start..start + self.step_bytes(), self.chunk)
    }

    fn step_bytes(&self) -> usize {
        self.distance.min(self.world - self.distance) * self.output.len()
    }

    fn send_to(&self) -> usize {
        (self.rank + self.world - self.distance) % self.world
    }

    fn receive_from(&self) -> usize {
        (self.rank + self.distance) % self.world
    }

    fn finish(&mut self) {
        let (bytes, own, world) = (self.output.len(), self.rank, self.world);
        let input_of = |rank: usize| {
            let index = (rank + world - own) % world;
            Source::Bytes(&self.known[index * bytes..(index + 1) * bytes])
        };
        let sources: PerRank<_> = (0..world).map(input_of).collect();
        reduce(self.arithmetic, &sources, self.output);
    }
}

impl Plan for Doubling<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        let (outgoing, incoming, mut moved) = (self.outgoing(), self.incoming(), false);
        if self.sent < outgoing.count() && fabric.can_send(self.send_to()) {
            fabric.send(self.send_to(), self.tag, &self.known[outgoing.get(self.sent)])?;
            self.sent += 1;
            moved = true;
        }
        let from = self.receive_from();
        if self.received < incoming.count() {
            let range = incoming.get(self.received);
            if let Some(message) = expected(fabric, from, self.tag, range.len())? {
                self.known[range].copy_from_slice(message.payload);
                fabric.release(from)?;
                self.received += 1;
                moved = true;
            }
        }
        if self.sent == outgoing.count() && self.received == incoming.count() {
            self.distance *= 2;
            if self.distance >= self.world {
                self.finish();
                return Ok(Progress::Done);
            }
            (self.sent, self.received) = (0, 0);
        }
        Ok(if moved { Progress::Moved } else { Progress::Idle })
    }

    fn waiting_for<F: Fabric>(&self, _fabric: &F) -> PerRank<usize> {
        let mut peers = PerRank::new();
        if self.sent < self.outgoing().count() {
            peers.push(self.send_to());
        }
        if self.received < self.incoming().count() {
            peers.push(self.receive_from());
        }
        peers.dedup();
        peers
    }
}
