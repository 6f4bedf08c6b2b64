//! Reduction: every rank sends each peer that peer's part of its input, and adds the parts that come to it, in rank
//! order, chunk by chunk. With the whole buffer as everybody's part this is a one-shot all-reduce; with one block each
//! it is a reduce-scatter, and the first half of a large all-reduce.

use std::ops::Range;

use halo_fabric::{Fabric, Tag};

use super::{Chunks, PerRank, Plan, PlanError, Progress, expected};
use crate::dtype::{DType, ReduceOp};
use crate::reduce::{Source, reduce};

pub(crate) struct Reduce<'a> {
    tag: Tag,
    dtype: DType,
    op: ReduceOp,
    rank: usize,
    /// This rank's input; `None` when it lies in `output`.
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    /// What goes to each rank, as a part of the input.
    outgoing: PerRank<Chunks>,
    /// This rank's own part, as a part of the input.
    own: Chunks,
    /// The same part in the output.
    result: Chunks,
    /// Chunks sent to each rank.
    sent: PerRank<usize>,
    /// Chunks reduced.
    reduced: usize,
}

impl<'a> Reduce<'a> {
    /// `part(rank)` is what `rank` reduces, as a range of the input; `result` is where this rank's part goes in the
    /// output.
    #[allow(clippy::too_many_arguments, reason = "one operation has these many facts")]
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        (dtype, op): (DType, ReduceOp),
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
        part: impl Fn(usize) -> Range<usize>,
        result: Range<usize>,
    ) -> Self {
        let chunk = fabric.slot_bytes();
        let (rank, world) = (fabric.rank(), fabric.world());
        Self {
            tag,
            dtype,
            op,
            rank,
            input,
            output,
            outgoing: (0..world).map(|peer| Chunks::new(part(peer), chunk)).collect(),
            own: Chunks::new(part(rank), chunk),
            result: Chunks::new(result, chunk),
            sent: (0..world).map(|_| 0).collect(),
            reduced: 0,
        }
    }

    fn all_sent(&self) -> bool {
        self.peers().all(|peer| self.sent[peer] == self.outgoing[peer].count())
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.rank;
        (0..self.sent.len()).filter(move |peer| *peer != rank)
    }

    /// Sends the next chunk to every peer that has room.
    fn send<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        let mut moved = false;
        for peer in self.peers() {
            let index = self.sent[peer];
            if index < self.outgoing[peer].count() && fabric.can_send(peer) {
                let range = self.outgoing[peer].get(index);
                let source = self.input.unwrap_or(self.output);
                fabric.send(peer, self.tag, &source[range])?;
                self.sent[peer] += 1;
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Reduces the next chunk if every rank's part of it is here.
    fn reduce<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        if self.reduced == self.own.count() {
            return Ok(false);
        }
        // In place, the result replaces input that every peer must have been sent before.
        if self.input.is_none() && !self.overwritable() {
            return Ok(false);
        }
        let (own, result) = (self.own.get(self.reduced), self.result.get(self.reduced));
        let mut sources = PerRank::new();
        for rank in 0..self.sent.len() {
            if rank == self.rank {
                sources.push(self.input.map_or(Source::Output, |input| Source::Bytes(&input[own.clone()])));
                continue;
            }
            match expected(fabric, rank, self.tag, own.len())? {
                Some(message) => sources.push(Source::Bytes(message.payload)),
                None => return Ok(false),
            }
        }
        reduce(self.dtype, self.op, &sources, &mut self.output[result]);
        drop(sources);
        self.reduced += 1;
        self.peers().try_for_each(|peer| fabric.release(peer))?;
        Ok(true)
    }

    /// Whether no peer still needs the input that the next chunk's result will replace.
    fn overwritable(&self) -> bool {
        let next = self.own.get(self.reduced);
        self.peers().all(|peer| {
            let (sent, outgoing) = (self.sent[peer], &self.outgoing[peer]);
            sent == outgoing.count() || {
                let unsent = outgoing.get(sent).start..outgoing.range.end;
                next.end <= unsent.start || next.start >= unsent.end
            }
        })
    }
}

impl Plan for Reduce<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        let sent = self.send(fabric)?;
        let reduced = self.reduce(fabric)?;
        if self.reduced == self.own.count() && self.all_sent() {
            return Ok(Progress::Done);
        }
        Ok(if sent || reduced { Progress::Moved } else { Progress::Idle })
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        let unsent = |peer: usize| self.sent[peer] < self.outgoing[peer].count();
        let unheard = |peer: usize| self.reduced < self.own.count() && matches!(fabric.head(peer), Ok(None));
        self.peers().filter(|peer| unsent(*peer) || unheard(*peer)).collect()
    }
}
