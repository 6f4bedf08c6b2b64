//! The receiving half of an RDMA connection.

use std::sync::Arc;

use halo_verbs::WorkRequest;

use super::flush::Flush;
use super::inbox::Inbox;
use super::lane::{Kind, Name};
use super::{Connected, failed, failure, layout};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::memory::Memory;
use crate::plugin::comm::{Arrival, Failure, Incoming};
use crate::plugin::device::Device;
use crate::plugin::error::PluginError;
use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, EAGER_SLOTS, Striping};

/// Completions taken per look.
const COMPLETIONS: usize = 16;

#[derive(Debug)]
pub(crate) struct Receiver {
    control: Control,
    // Queue pairs go before the memory that they work on.
    flush: Option<Flush>,
    connected: Connected,
    inbox: Inbox,
    eager_bytes: usize,
    announced: u64,
    eager_told: u64,
}

impl Receiver {
    pub(crate) fn new(
        device: &'static Device,
        control: Control,
        connected: Connected,
        eager_bytes: usize,
        striping: Striping,
    ) -> Result<Self, PluginError> {
        let flush = if device.gpu_direct() { Some(Flush::new(device, &connected)?) } else { None };
        let inbox = Inbox::new(Arc::clone(&connected.arena), eager_bytes, striping);
        Ok(Self { control, flush, connected, inbox, eager_bytes, announced: 0, eager_told: 0 })
    }

    /// Receives that can still be posted: none while the queue for announcements is full.
    pub(crate) fn room(&mut self) -> Result<usize, Failure> {
        // Two writes of announcements (the ring may wrap), their count, and a credit.
        if !self.connected.lanes[0].has_room(4) {
            self.reap(&mut |_| {})?;
        }
        Ok(if self.connected.lanes[0].has_room(4) { self.inbox.room() } else { 0 })
    }

    /// Posts the parts of a receive and announces them, in one or two writes and one word.
    pub(crate) fn post(&mut self, request: usize, parts: &[Incoming<'_>]) -> Result<(), Failure> {
        let first = self.announced;
        for (part, incoming) in parts.iter().enumerate() {
            let announcement = self.inbox.post(request, part, incoming);
            let at = layout::receiver::staging(self.announced, self.eager_bytes);
            self.connected.arena.write(at, bytemuck::bytes_of(&announcement));
            self.announced += 1;
        }
        self.announce(first)
    }

    /// Writes announcements from `first` on into the sender's ring, and their count behind them.
    fn announce(&mut self, first: u64) -> Result<(), Failure> {
        let port = self.connected.port;
        let count = self.announced - first;
        let until_wrap = (layout::RING - first % layout::RING).min(count);
        let name = |place| Name { kind: Kind::Told, lane: 0, request: 0, place }.encode();
        let write = |connected: &Connected, first: u64, count: u64| {
            let from = layout::receiver::staging(first, self.eager_bytes);
            let to = connected.remote(layout::sender::ring(first));
            WorkRequest::write(&connected.region, from, count as usize * ANNOUNCEMENT_BYTES, to)
        };
        let body = write(&self.connected, first, until_wrap);
        let head =
            WorkRequest::write_inline(self.announced, self.connected.remote(layout::sender::ANNOUNCED));
        let posted = if until_wrap == count {
            body.and_then(|body| self.connected.lanes[0].post_quietly([body, head], name))
        } else {
            let rest = write(&self.connected, first + until_wrap, count - until_wrap);
            body.and_then(|body| Ok((body, rest?)))
                .and_then(|(body, rest)| self.connected.lanes[0].post_quietly([body, rest, head], name))
        };
        posted.map_err(|error| failure(port, &error))
    }

    /// Reads the last byte of GPU memory that was written, so that everything before it is there.
    pub(crate) fn flush(&mut self, request: usize, written: &Incoming<'_>) -> Result<(), Failure> {
        let port = self.connected.port;
        let region = written.memory.and_then(Memory::region);
        let (Some(flush), Some(region)) = (&mut self.flush, region) else {
            return Err(Failure::Protocol("GPU memory on a connection without GPU-direct".to_owned()));
        };
        flush
            .post(request, region, written.data as u64 + written.room - 1)
            .map_err(|error| failure(port, &error))
    }

    /// Looks at the flags; `arrived` is told every part that is complete.
    pub(crate) fn progress(&mut self, mut arrived: impl FnMut(Arrival)) -> Result<(), Failure> {
        self.inbox.take_eager(&mut arrived)?;
        self.tell_credit()?;
        self.inbox.take_written(&mut arrived)?;
        self.reap(&mut arrived)?;
        self.control.now_and_then();
        if self.inbox.is_empty() {
            return Ok(());
        }
        // What an orderly peer has written is complete before it closes: the flags have had their look.
        match self.control.ended() {
            Some(cause) if self.control.lost().is_some() || !self.inbox.anything_new() => {
                Err(Failure::Lost(cause.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Tells how many slots are free again, when that is half of them.
    fn tell_credit(&mut self) -> Result<(), Failure> {
        let consumed = self.inbox.consumed();
        if consumed - self.eager_told < EAGER_SLOTS as u64 / 2 || !self.connected.lanes[0].has_room(1) {
            return Ok(());
        }
        let credit = WorkRequest::write_inline(consumed, self.connected.remote(layout::sender::CREDIT));
        let name = |place| Name { kind: Kind::Told, lane: 0, request: 0, place }.encode();
        let port = self.connected.port;
        self.connected.lanes[0].post_quietly([credit], name).map_err(|error| failure(port, &error))?;
        self.eager_told = consumed;
        Ok(())
    }

    fn reap(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let Self { control, connected, flush, .. } = self;
        let (mut broken, lanes) = (None, &mut connected.lanes);
        let taken = connected.completions.poll::<COMPLETIONS>(|completion| {
            let Name { kind, lane, request, place } = Name::decode(completion.id);
            if !completion.succeeded() {
                broken.get_or_insert(completion);
            } else if kind == Kind::Flush {
                if let Some(flush) = flush.as_mut() {
                    flush.complete(place);
                }
                arrived(Arrival { request, part: 0, bytes: 0 });
            } else {
                lanes[lane].complete(place);
            }
        });
        let port = connected.port;
        taken.map_err(|error| failure(port, &error))?;
        broken.map_or(Ok(()), |completion| {
            Err(failed(control, port, &connected.completions.explain(&completion)))
        })
    }
}
