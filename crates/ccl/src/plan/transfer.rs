//! Transfers: parts of a buffer to some peers, parts from some peers into a buffer. All-gather, broadcast, gather,
//! send/recv and the barrier are transfers that differ only in who sends what to whom.

use std::ops::Range;

use halo_fabric::{Fabric, Tag};

use super::{Chunks, PerRank, Plan, PlanError, Progress, expected};

/// One peer's part and how much of it has passed.
struct Flow {
    peer: usize,
    chunks: Chunks,
    passed: usize,
}

impl Flow {
    fn is_done(&self) -> bool {
        self.passed == self.chunks.count()
    }
}

pub(crate) struct Transfer<'a> {
    tag: Tag,
    chunk: usize,
    /// What is sent; `None` when it lies in `output`.
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    sends: PerRank<Flow>,
    receives: PerRank<Flow>,
}

impl<'a> Transfer<'a> {
    /// A transfer between `input` (or `output` itself) and `output`, of nothing yet.
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
    ) -> Self {
        let (sends, receives) = (PerRank::new(), PerRank::new());
        Self { tag, chunk: fabric.slot_bytes(), input, output, sends, receives }
    }

    /// Sends `range` of the input to `peer`.
    pub(crate) fn send(mut self, peer: usize, range: Range<usize>) -> Self {
        self.sends.push(Flow { peer, chunks: Chunks::new(range, self.chunk), passed: 0 });
        self
    }

    /// Receives `range` of the output from `peer`.
    pub(crate) fn receive(mut self, peer: usize, range: Range<usize>) -> Self {
        self.receives.push(Flow { peer, chunks: Chunks::new(range, self.chunk), passed: 0 });
        self
    }
}

impl Plan for Transfer<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        let mut moved = false;
        for flow in self.sends.iter_mut().filter(|flow| !flow.is_done()) {
            if fabric.can_send(flow.peer) {
                let source = self.input.unwrap_or(self.output);
                fabric.send(flow.peer, self.tag, &source[flow.chunks.get(flow.passed)])?;
                flow.passed += 1;
                moved = true;
            }
        }
        for flow in self.receives.iter_mut().filter(|flow| !flow.is_done()) {
            let range = flow.chunks.get(flow.passed);
            if let Some(message) = expected(fabric, flow.peer, self.tag, range.len())? {
                self.output[range].copy_from_slice(message.payload);
                fabric.release(flow.peer)?;
                flow.passed += 1;
                moved = true;
            }
        }
        if self.sends.iter().chain(&self.receives).all(Flow::is_done) {
            return Ok(Progress::Done);
        }
        Ok(if moved { Progress::Moved } else { Progress::Idle })
    }

    fn waiting_for<F: Fabric>(&self, _fabric: &F) -> PerRank<usize> {
        let mut peers: PerRank<usize> = self
            .sends
            .iter()
            .chain(&self.receives)
            .filter(|flow| !flow.is_done())
            .map(|flow| flow.peer)
            .collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}
