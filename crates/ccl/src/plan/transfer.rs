//! Transfers: parts of a buffer to some peers, parts from some peers into a buffer. All-gather, broadcast, gather,
//! scatter, all-to-all and the barrier are transfers that differ only in who sends what to whom.
//!
//! What a peer's part of the output is, it is lent: where the output is registered memory, the peer may write there itself.
//! Nobody waits for that. Chunks that are sent before the loan is known travel by slots, those behind it do not.

use halo_fabric::{Fabric, Tag};

use super::{Chunks, Parts, PerRank, Plan, PlanError, Progress, all_read, counts, expected, others};

#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    tag: Tag,
    rank: usize,
    chunk: usize,
    /// What is sent; `None` when it lies in `output`.
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    /// What goes to each peer, as parts of the input.
    sends: Parts,
    /// What comes from each peer, as parts of the output.
    receives: Parts,
    /// Chunks sent to each rank.
    sent: PerRank<u32>,
    /// Chunks received from each rank.
    received: PerRank<u32>,
    /// Whether the peers know of the output.
    lent: bool,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
        sends: Parts,
        receives: Parts,
    ) -> Self {
        let (rank, world, chunk) = (fabric.rank(), fabric.world(), fabric.slot_bytes());
        Self {
            tag,
            rank,
            chunk,
            input,
            output,
            sends,
            receives,
            sent: counts(world),
            received: counts(world),
            lent: false,
        }
    }

    /// The chunk that comes next after `passed` ones, if there is one.
    fn next(&self, parts: Parts, peer: usize, passed: u32) -> Option<std::ops::Range<usize>> {
        let chunks = Chunks::new(parts.of(peer)?, self.chunk);
        ((passed as usize) < chunks.count()).then(|| chunks.get(passed as usize))
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        others(self.rank, self.sent.len())
    }

    fn lend<F: Fabric>(&mut self, fabric: &mut F) -> Result<(), PlanError> {
        for peer in self.peers() {
            if let Some(part) = self.receives.of(peer) {
                fabric.lend(peer, self.tag, &mut self.output[part])?;
            }
        }
        self.lent = true;
        Ok(())
    }
}

impl Plan for Transfer<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        let (mut moved, mut done) = (false, true);
        if !self.lent {
            self.lend(fabric)?;
        }
        for peer in self.peers() {
            let Some(range) = self.next(self.sends, peer, self.sent[peer]) else { continue };
            if fabric.can_send(peer) {
                let place = self.sent[peer] as usize * self.chunk;
                fabric.refer(peer, self.tag, &self.input.unwrap_or(self.output)[range], Some(place))?;
                self.sent[peer] += 1;
                moved = true;
            }
            done &= self.next(self.sends, peer, self.sent[peer]).is_none();
        }
        for peer in self.peers() {
            let Some(range) = self.next(self.receives, peer, self.received[peer]) else { continue };
            if let Some(message) = expected(fabric, peer, self.tag, range.len())? {
                if message.placed.is_none() {
                    self.output[range].copy_from_slice(message.payload);
                }
                fabric.release(peer)?;
                self.received[peer] += 1;
                moved = true;
            }
            let whole = self.next(self.receives, peer, self.received[peer]).is_none();
            if whole {
                fabric.take_back(peer);
            }
            done &= whole;
        }
        done = done && all_read(fabric, self.peers());
        Ok(match (done, moved) {
            (true, _) => Progress::Done,
            (false, true) => Progress::Moved,
            (false, false) => Progress::Idle,
        })
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        let unsent = |peer: usize| self.next(self.sends, peer, self.sent[peer]).is_some();
        let unheard = |peer: usize| self.next(self.receives, peer, self.received[peer]).is_some();
        self.peers().filter(|peer| unsent(*peer) || unheard(*peer) || fabric.unread(*peer) > 0).collect()
    }
}
