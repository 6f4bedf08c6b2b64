//! An exchange: sends and receives of a group, each with a buffer and a tag of its own, all at once, so that no order
//! of them makes two ranks wait for each other. Between two ranks and in one direction they keep their order.

use halo_fabric::{Fabric, Tag};
use smallvec::SmallVec;

use super::{Chunks, PerRank, Plan, PlanError, Progress, all_read, expected};

#[derive(Debug)]
struct Flow<Buffer> {
    peer: usize,
    tag: Tag,
    buffer: Buffer,
    passed: usize,
}

impl<Buffer: AsRef<[u8]>> Flow<Buffer> {
    fn chunks(&self, chunk: usize) -> Chunks {
        Chunks::new(0..self.buffer.as_ref().len(), chunk)
    }

    fn is_done(&self, chunk: usize) -> bool {
        self.passed == self.chunks(chunk).count()
    }
}

#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    chunk: usize,
    sends: SmallVec<[Flow<&'a [u8]>; 2]>,
    receives: SmallVec<[Flow<&'a mut [u8]>; 2]>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new<F: Fabric>(fabric: &F) -> Self {
        Self { chunk: fabric.slot_bytes(), sends: SmallVec::new(), receives: SmallVec::new() }
    }

    pub(crate) fn send(&mut self, peer: usize, tag: Tag, buffer: &'a [u8]) {
        self.sends.push(Flow { peer, tag, buffer, passed: 0 });
    }

    pub(crate) fn receive(&mut self, peer: usize, tag: Tag, buffer: &'a mut [u8]) {
        self.receives.push(Flow { peer, tag, buffer, passed: 0 });
    }

    /// The first send to `peer` that is not done, which those behind it wait for.
    fn is_first_send(&self, index: usize) -> bool {
        let peer = self.sends[index].peer;
        self.sends[..index].iter().all(|flow| flow.peer != peer || flow.is_done(self.chunk))
    }

    fn is_first_receive(&self, index: usize) -> bool {
        let peer = self.receives[index].peer;
        self.receives[..index].iter().all(|flow| flow.peer != peer || flow.is_done(self.chunk))
    }
}

impl Plan for Exchange<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        let (mut moved, mut done) = (false, true);
        for index in 0..self.sends.len() {
            let first = self.is_first_send(index);
            let flow = &mut self.sends[index];
            if first && !flow.is_done(self.chunk) && fabric.can_send(flow.peer) {
                let range = flow.chunks(self.chunk).get(flow.passed);
                fabric.pass(flow.peer, flow.tag, &flow.buffer[range], None)?;
                flow.passed += 1;
                moved = true;
            }
            done &= flow.is_done(self.chunk);
        }
        for index in 0..self.receives.len() {
            let first = self.is_first_receive(index);
            let flow = &mut self.receives[index];
            if first && !flow.is_done(self.chunk) {
                let range = flow.chunks(self.chunk).get(flow.passed);
                if let Some(message) = expected(fabric, flow.peer, flow.tag, range.len())? {
                    flow.buffer[range].copy_from_slice(message.payload);
                    fabric.release(flow.peer)?;
                    flow.passed += 1;
                    moved = true;
                }
            }
            done &= flow.is_done(self.chunk);
        }
        done = done && all_read(fabric, self.sends.iter().map(|flow| flow.peer));
        Ok(match (done, moved) {
            (true, _) => Progress::Done,
            (false, true) => Progress::Moved,
            (false, false) => Progress::Idle,
        })
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        let unsent = |flow: &&Flow<&[u8]>| !flow.is_done(self.chunk) || fabric.unread(flow.peer) > 0;
        let sends = self.sends.iter().filter(unsent).map(|flow| flow.peer);
        let receives = self.receives.iter().filter(|flow| !flow.is_done(self.chunk)).map(|flow| flow.peer);
        let mut peers: PerRank<usize> = sends.chain(receives).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}
