//! A link over one queue pair, or over several by as many NIC ports.

use std::collections::VecDeque;
use std::sync::Arc;

use halo_verbs::WorkRequest;

use super::depth::queue_depth;
use super::journal::Placed;
use super::memory::Memory;
use super::rail::Rail;
use super::several::Several;
use super::stripes::STRIPED_BYTES;
use crate::arena::Arena;
use crate::control::RemoteBell;
use crate::layout::{FLAG_IN_TRAILER, LINE, Layout};
use crate::link::{Alarm, Link, LinkFailure, Source};
use crate::mesh::{RailBytes, arrived};
use crate::message::{Header, LEND, Lend, MAX_RAILS, Outgoing};

/// A payload that the NIC may still read where it lies.
#[derive(Debug)]
pub(super) struct Unread {
    /// Its message.
    pub(super) number: u64,
    /// The rail, and its work request whose completion says that the payload has been read.
    pub(super) rail: usize,
    pub(super) posted: u64,
    /// Keeps the registration.
    pub(super) memory: Arc<Memory>,
    pub(super) offset: usize,
}

/// Why a link does nothing any more.
const HALTED: &str = "it was halted when the communicator failed";

/// A link to one peer.
#[derive(Debug)]
pub(crate) struct RdmaLink {
    pub(super) rank: usize,
    pub(super) peer: usize,
    pub(super) layout: Layout,
    /// In the order that both ranks know; none where one was lost, and none at all once the link was halted.
    pub(super) rails: Vec<Option<Rail>>,
    /// The arena's registration.
    pub(super) memory: Arc<Memory>,
    /// Payloads written from where they lie, oldest first.
    pub(super) unread: VecDeque<Unread>,
    /// Keeps the registration of what the peer may write.
    lent: Option<Arc<Memory>>,
    /// What more than one rail needs.
    pub(super) several: Option<Box<Several>>,
    bell: Arc<RemoteBell>,
}

impl RdmaLink {
    pub(super) fn new(
        rank: usize,
        peer: usize,
        layout: Layout,
        rails: Vec<Rail>,
        memory: Arc<Memory>,
        several: Option<Several>,
        bell: Arc<RemoteBell>,
    ) -> Self {
        // No operation allocates: each takes two work requests, and the queue holds no more.
        let unread = VecDeque::with_capacity(queue_depth(layout) as usize / 2);
        let rails = rails.into_iter().map(Some).collect();
        let several = several.map(Box::new);
        Self { rank, peer, layout, rails, memory, unread, lent: None, several, bell }
    }

    /// Bytes of each rail, where there are several.
    pub(crate) fn rail_bytes(&self) -> Vec<Arc<RailBytes>> {
        self.several.as_ref().map(|several| several.bytes.clone()).unwrap_or_default()
    }

    /// The rail for a message.
    #[inline]
    pub(super) fn choose(&mut self, number: u64, bytes: usize, placed: Option<Placed>) -> usize {
        self.several.as_mut().map_or(0, |several| several.choose(number, bytes, placed))
    }

    /// The rail of whatever is no message.
    #[inline]
    fn first(&self) -> usize {
        self.several.as_ref().map_or(0, |several| several.first())
    }

    #[inline]
    pub(super) fn on(&self, rail: usize) -> Result<&Rail, LinkFailure> {
        Ok(self.rails[rail].as_ref().ok_or(HALTED)?)
    }

    /// A write of `bytes` bytes at `from` of this arena to `to` of the peer's.
    pub(super) fn write_from(
        &self,
        rail: usize,
        from: usize,
        bytes: usize,
        to: usize,
    ) -> Result<WorkRequest, LinkFailure> {
        let rail = self.on(rail)?;
        rail.write(&self.memory, from, bytes, rail.at(to, bytes)?)
    }

    /// Posts what belongs to a message of `bytes` bytes, or to none.
    #[inline]
    pub(super) fn post<const N: usize>(
        &mut self,
        rail: usize,
        requests: [WorkRequest; N],
        bytes: usize,
        told: bool,
    ) -> Result<(), LinkFailure> {
        let measured = bytes >= STRIPED_BYTES && self.several.is_some();
        let on = self.rails[rail].as_mut().ok_or(HALTED)?;
        if let Err(cause) = on.post(requests, told || measured) {
            // What was to be posted here counts as posted: with the rail it is lost, and written again.
            return self.lose(rail, cause);
        }
        if measured && let Some(several) = &mut self.several {
            several.posted(rail, on.posted(), bytes);
        }
        self.bell.ring();
        Ok(())
    }

    fn reap(&mut self) -> Result<(), LinkFailure> {
        for index in 0..self.rails.len() {
            let Some(rail) = &mut self.rails[index] else { continue };
            match (rail.reap(), &mut self.several) {
                (Ok(()), None) => {}
                (Ok(()), Some(several)) => several.completed(index, rail.completed()),
                (Err(cause), _) => self.lose(index, cause)?,
            }
        }
        let read = |oldest: &Unread| {
            let rail = &self.rails[oldest.rail];
            oldest.posted == 0 || rail.as_ref().is_some_and(|rail| oldest.posted <= rail.completed())
        };
        while self.unread.front().is_some_and(read) {
            self.unread.pop_front();
        }
        if self.rails.iter().all(Option::is_none) { Err(HALTED.to_owned()) } else { Ok(()) }
    }

    /// Tells the peer how much has been consumed here.
    pub(super) fn write_credit_line(&mut self, consumed: u64) -> Result<(), LinkFailure> {
        let rail = self.first();
        let line = self.on(rail)?.at(self.layout.credit(self.peer, self.rank), LINE)?;
        self.post(rail, [WorkRequest::write_inline(consumed, line)], 0, false)
    }

    /// Writes the trailer of a message to its staging slot; the request that sends it.
    fn trailer(
        &self,
        arena: &Arena,
        rail: usize,
        number: u64,
        header: &Header,
    ) -> Result<WorkRequest, LinkFailure> {
        let slot = self.layout.slot(self.peer, self.rank, number);
        let trailer = self.layout.staging(self.rank, self.peer, number) + self.layout.slot_bytes;
        arena.write_header(trailer, header);
        arena.store(trailer + FLAG_IN_TRAILER, header.checked_flag(number));
        Ok(self.write_from(rail, trailer, LINE, slot + self.layout.slot_bytes)?.inlined())
    }

    /// Copies a payload to its staging slot; where it is sent from.
    fn stage(&self, arena: &Arena, message: &Outgoing<'_>) -> usize {
        let staging = self.layout.staging(self.rank, self.peer, message.number);
        arena.write(staging, message.payload);
        staging
    }

    /// Where the peer takes this message's payload directly, if it has lent memory for it.
    fn lent_place(&self, arena: &Arena, message: &Outgoing<'_>, place: usize) -> Option<Placed> {
        let header = arrived(arena, self.layout.lend(self.rank, self.peer), LEND)?;
        let lend = Lend::from_header(&header);
        let taken = lend.takes(message.tag, message.number, place, message.payload.len());
        taken.then(|| Placed { address: lend.address + place as u64, keys: lend.keys })
    }
}

impl Link for RdmaLink {
    fn ready(&mut self) -> bool {
        self.rails.iter().flatten().all(Rail::has_room)
    }

    fn write(&mut self, arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        let (number, bytes) = (message.number, message.payload.len());
        let rail = self.choose(number, bytes, None);
        let trailer = self.trailer(arena, rail, number, &message.header())?;
        if message.is_short() {
            return self.post(rail, [trailer], bytes, false);
        }
        let slot = self.layout.slot(self.peer, self.rank, number);
        let payload = self.write_from(rail, self.stage(arena, message), bytes, slot)?;
        self.post(rail, [payload, trailer], bytes, false)
    }

    fn pass(
        &mut self,
        arena: &Arena,
        message: &Outgoing<'_>,
        source: Option<Source>,
        place: Option<usize>,
    ) -> Result<bool, LinkFailure> {
        let placed = place.and_then(|place| self.lent_place(arena, message, place));
        if message.is_short() || (placed.is_none() && source.is_none()) {
            self.write(arena, message)?;
            return Ok(false);
        }
        let (bytes, number) = (message.payload.len(), message.number);
        let rail = self.choose(number, bytes, placed);
        let port = self.on(rail)?.port();
        let source =
            source.filter(|source| source.memory.at_port(port).holding(source.offset, bytes).is_some());
        let (header, to) = if let Some(placed) = placed {
            (message.placed_header(), placed.on(rail))
        } else {
            let slot = self.layout.slot(self.peer, self.rank, number);
            (message.header(), self.on(rail)?.at(slot, bytes)?)
        };
        let trailer = self.trailer(arena, rail, number, &header)?;
        let Some(Source { memory, offset }) = source else {
            let staged = self.stage(arena, message);
            let payload = self.on(rail)?.write(&self.memory, staged, bytes, to)?;
            self.post(rail, [payload, trailer], bytes, false)?;
            return Ok(false);
        };
        let payload = self.on(rail)?.write(&memory, offset, bytes, to)?;
        let posted = self.on(rail)?.posted() + 2;
        self.post(rail, [payload, trailer], bytes, true)?;
        self.unread.push_back(Unread { number, rail, posted, memory, offset });
        Ok(true)
    }

    fn oldest_unread(&self) -> Option<u64> {
        self.unread.front().map(|oldest| oldest.number)
    }

    fn lend(&mut self, arena: &Arena, lend: &Lend, source: &Source) -> Result<(), LinkFailure> {
        // To lend is an offer: with a full queue, or memory that is in two regions, there is none.
        if !self.ready() {
            return Ok(());
        }
        let mut keys = [0; MAX_RAILS];
        for (key, rail) in keys.iter_mut().zip(&self.rails) {
            let Some(rail) = rail else { continue };
            let regions = source.memory.at_port(rail.port());
            let Some((_, region)) = regions.holding(source.offset, lend.bytes as usize) else {
                return Ok(());
            };
            *key = region.remote_key();
        }
        let header = Lend { keys, ..*lend }.header();
        let staged = self.layout.staged_lend(self.rank, self.peer);
        arena.write_header(staged, &header);
        arena.store(staged + FLAG_IN_TRAILER, header.checked_flag(LEND));
        let rail = self.first();
        let line = self.write_from(rail, staged, LINE, self.layout.lend(self.peer, self.rank))?.inlined();
        self.lent = Some(Arc::clone(&source.memory));
        self.post(rail, [line], 0, false)
    }

    fn take_back(&mut self) {
        self.lent = None;
    }

    fn has_lent(&self) -> bool {
        self.lent.is_some()
    }

    fn halt(&mut self) {
        // Without a queue pair there is no connection, and nothing that was posted is done any more.
        self.rails.iter_mut().for_each(|rail| *rail = None);
        self.lent = None;
        self.unread.clear();
    }

    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.write_credit_line(consumed)
    }

    #[inline]
    fn progress(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.reap()?;
        if self.several.is_some() {
            self.tend(arena, consumed)?;
        }
        Ok(())
    }

    fn flushed(&self) -> bool {
        // Unsignaled requests behind the last signaled one are complete when the peer has consumed them, which is what
        // a closing rank waits for by its good-bye.
        self.rails.iter().flatten().all(Rail::is_flushed)
            && self.several.as_ref().is_none_or(|several| several.is_settled())
    }

    fn ask_to_be_rung(&self) {
        self.bell.ask();
    }

    fn alarm(&self) -> Alarm<'_> {
        Alarm::Bell
    }
}
