//! Reduction: every rank sends each peer that peer's part of its input, and adds the parts that come to it, in rank
//! order, chunk by chunk. With the whole buffer as everybody's part this is a one-shot all-reduce; with one block each
//! it is a reduce-scatter; with one rank's part alone it is a reduce.

use std::ops::Range;

use halo_fabric::{Fabric, Tag};

use super::{Chunks, Parts, PerRank, Plan, PlanError, Progress, all_read, counts, expected, others};
use crate::reduce::{Arithmetic, Source, reduce};

#[derive(Debug)]
pub(crate) struct Reduce<'a> {
    tag: Tag,
    arithmetic: Arithmetic,
    rank: usize,
    chunk: usize,
    /// This rank's input; `None` when it lies in `output`.
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    /// What each rank reduces, as parts of the input.
    parts: Parts,
    /// Where this rank's part goes in the output.
    result: usize,
    /// Chunks sent to each rank.
    sent: PerRank<u32>,
    /// Whether those are all chunks of all ranks: said once, and not counted again by every idle step.
    all_sent: bool,
    /// Chunks reduced.
    reduced: usize,
    /// Whether those are all, or there is nothing to reduce here.
    all_reduced: bool,
}

impl<'a> Reduce<'a> {
    #[inline(always)]
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        arithmetic: Arithmetic,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
        parts: Parts,
        result: usize,
    ) -> Self {
        let sent = counts(fabric.world());
        let (rank, chunk) = (fabric.rank(), fabric.slot_bytes());
        let (all_sent, reduced, all_reduced) = (false, 0, parts.of(rank).is_none());
        Self {
            tag,
            arithmetic,
            rank,
            chunk,
            input,
            output,
            parts,
            result,
            sent,
            all_sent,
            reduced,
            all_reduced,
        }
    }

    /// The same in smaller chunks than a slot could take: the first ones are reduced while the last ones travel.
    #[inline(always)]
    pub(crate) fn in_chunks(mut self, bytes: usize) -> Self {
        self.chunk = bytes.min(self.chunk);
        self
    }

    fn chunks(&self, rank: usize) -> Option<Chunks> {
        self.parts.of(rank).map(|range| Chunks::new(range, self.chunk))
    }

    fn has_chunks_for(&self, peer: usize) -> bool {
        (self.sent[peer] as usize) < self.chunks(peer).map_or(0, |chunks| chunks.count())
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        others(self.rank, self.sent.len())
    }

    /// Sends the next chunk to every peer that has room.
    fn send<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        let mut moved = false;
        self.all_sent = true;
        for peer in self.peers() {
            let Some(chunks) = self.chunks(peer) else { continue };
            let (index, count) = (self.sent[peer] as usize, chunks.count());
            if index < count && fabric.can_send(peer) {
                let source = self.input.unwrap_or(self.output);
                let payload = &source[chunks.get(index)];
                if self.input.is_some() {
                    fabric.refer(peer, self.tag, payload, None)?;
                } else {
                    // In place, two ranks that read each other's input would wait for each other.
                    fabric.pass(peer, self.tag, payload, None)?;
                }
                self.sent[peer] += 1;
                moved = true;
            }
            self.all_sent &= self.sent[peer] as usize == count;
        }
        Ok(moved)
    }

    /// Reduces the next chunk if every rank's part of it is here.
    fn reduce<F: Fabric>(&mut self, fabric: &mut F) -> Result<bool, PlanError> {
        let Some(chunks) = self.chunks(self.rank) else { return Ok(false) };
        let own = chunks.get(self.reduced);
        let result = self.result + own.start - chunks.range.start;
        let result = result..result + own.len();
        // In place, the result replaces input that must have gone to every peer before.
        if self.input.is_none() && !self.overwritable(fabric, &result) {
            return Ok(false);
        }
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
        reduce(self.arithmetic, &sources, &mut self.output[result]);
        drop(sources);
        self.reduced += 1;
        self.all_reduced = self.reduced == chunks.count();
        for peer in self.peers() {
            fabric.release(peer)?;
        }
        Ok(true)
    }

    /// Whether no peer still needs the input that a result will replace.
    fn overwritable<F: Fabric>(&self, fabric: &F, result: &Range<usize>) -> bool {
        self.peers().all(|peer| {
            let Some(outgoing) = self.chunks(peer) else { return true };
            // What was passed may still be read where it lies.
            let gone = self.sent[peer].saturating_sub(fabric.unread(peer)) as usize;
            gone == outgoing.count() || {
                let unsent = outgoing.get(gone).start..outgoing.range.end;
                result.end <= unsent.start || result.start >= unsent.end
            }
        })
    }
}

impl Plan for Reduce<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        let sent = !self.all_sent && self.send(fabric)?;
        let reduced = !self.all_reduced && self.reduce(fabric)?;
        if self.all_sent && self.all_reduced && all_read(fabric, self.peers()) {
            return Ok(Progress::Done);
        }
        Ok(if sent || reduced { Progress::Moved } else { Progress::Idle })
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        let unheard = |peer: usize| !self.all_reduced && matches!(fabric.head(peer), Ok(None));
        let unread = |peer: usize| fabric.unread(peer) > 0;
        self.peers().filter(|peer| self.has_chunks_for(*peer) || unheard(*peer) || unread(*peer)).collect()
    }
}
