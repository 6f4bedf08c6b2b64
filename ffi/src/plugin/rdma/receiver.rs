//! The receiving half of an RDMA connection.

use std::sync::Arc;

use halo_verbs::{Completion, WorkRequest};

use super::flush::Flush;
use super::inbox::Inbox;
use super::lane::{Kind, Name};
use super::rail::Rail;
use super::{Connected, ended, failed, failure, give_up, layout};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::memory::Memory;
use crate::plugin::comm::{Arrival, Failure, Incoming};
use crate::plugin::device::Device;
use crate::plugin::error::PluginError;
use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, EAGER_SLOTS};

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
    ) -> Result<Self, PluginError> {
        let flush = if device.gpu_direct() { Some(Flush::new(device, &connected.rails)?) } else { None };
        let control = control.silent();
        let inbox = Inbox::new(Arc::clone(&connected.arena), eager_bytes);
        Ok(Self { control, flush, connected, inbox, eager_bytes, announced: 0, eager_told: 0 })
    }

    /// Receives that can still be posted: none while the queue for announcements is full. `arrived` is told every part
    /// that turns out to be complete.
    pub(crate) fn room(&mut self, mut arrived: impl FnMut(Arrival)) -> Result<usize, Failure> {
        if !self.may_announce() {
            self.take_in(&mut arrived).inspect_err(|failure| give_up(&mut self.control, failure))?;
        }
        Ok(if self.may_announce() { self.inbox.room() } else { 0 })
    }

    /// Room for two writes of announcements (the ring may wrap), their count, and a credit.
    fn may_announce(&self) -> bool {
        self.connected.lanes[0].has_room(4)
    }

    /// Posts the parts of a receive.
    pub(crate) fn post(&mut self, request: usize, parts: &[Incoming<'_>]) -> Result<(), Failure> {
        for (part, incoming) in parts.iter().enumerate() {
            self.inbox.post(request, part, incoming);
        }
        self.announce_unless_quiet().inspect_err(|failure| give_up(&mut self.control, failure))
    }

    /// Announces what waits, in one or two writes and one word, unless the sender would have no use for it.
    fn announce_unless_quiet(&mut self) -> Result<(), Failure> {
        let quiet = self.connected.arena.load(layout::receiver::QUIET) != 0;
        if quiet || !self.inbox.has_untold() || !self.may_announce() {
            return Ok(());
        }
        let first = self.announced;
        let Self { inbox, connected, announced, eager_bytes, .. } = self;
        inbox.tell(|announcement| {
            let at = layout::receiver::staging(*announced, *eager_bytes);
            connected.arena.write(at, bytemuck::bytes_of(announcement));
            *announced += 1;
        });
        self.announce(first)
    }

    /// Writes announcements from `first` on into the sender's ring, and their count behind them.
    fn announce(&mut self, first: u64) -> Result<(), Failure> {
        let port = self.connected.rail(0).port;
        let count = self.announced - first;
        let until_wrap = (layout::RING - first % layout::RING).min(count);
        let name = |place| Name { kind: Kind::Told, lane: 0, request: 0, place }.encode();
        let write = |connected: &Connected, first: u64, count: u64| {
            let from = layout::receiver::staging(first, self.eager_bytes);
            let to = connected.remote(0, layout::sender::ring(first));
            WorkRequest::write(&connected.rail(0).region, from, count as usize * ANNOUNCEMENT_BYTES, to)
        };
        let body = write(&self.connected, first, until_wrap);
        let head =
            WorkRequest::write_inline(self.announced, self.connected.remote(0, layout::sender::ANNOUNCED));
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
        let regions = written.memory.and_then(Memory::regions);
        let (Some(flush), Some(regions)) = (&mut self.flush, regions) else {
            return Err(Failure::Protocol("GPU memory on a connection without GPU-direct".to_owned()));
        };
        let posted = flush.post(request, regions, written.data as u64 + written.room - 1);
        posted
            .map_err(|(rail, error)| failure(self.connected.rails[rail].port, &error))
            .inspect_err(|failure| give_up(&mut self.control, failure))
    }

    /// Takes in what has come; `arrived` is told every part that is complete.
    pub(crate) fn progress(&mut self, mut arrived: impl FnMut(Arrival)) -> Result<(), Failure> {
        self.try_progress(&mut arrived).inspect_err(|failure| give_up(&mut self.control, failure))
    }

    fn try_progress(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        self.take_in(arrived)?;
        self.tell_credit()?;
        self.announce_unless_quiet()?;
        if self.control.now_and_then() {
            self.connected.watch_ports()?;
        }
        if self.inbox.is_empty() || self.control.ended().is_none() {
            return Ok(());
        }
        // What an orderly peer has written is complete before it closes.
        if self.control.lost().is_none() {
            self.take_in(arrived)?;
        }
        match self.control.ended() {
            Some(cause) if !self.inbox.is_empty() => Err(ended(&self.connected, cause)),
            _ => Ok(()),
        }
    }

    fn take_in(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let rails = self.connected.rails.len();
        let reaped = (0..rails).try_for_each(|rail| {
            while self.reap(rail, arrived)? == COMPLETIONS {}
            Ok(())
        });
        // What came before a failure has come.
        self.inbox.take_eager(arrived)?;
        reaped
    }

    /// Tells how many slots are free again, when that is half of them.
    fn tell_credit(&mut self) -> Result<(), Failure> {
        let consumed = self.inbox.consumed();
        if consumed - self.eager_told < EAGER_SLOTS as u64 / 2 || !self.connected.lanes[0].has_room(1) {
            return Ok(());
        }
        let credit = WorkRequest::write_inline(consumed, self.connected.remote(0, layout::sender::CREDIT));
        let name = |place| Name { kind: Kind::Told, lane: 0, request: 0, place }.encode();
        let port = self.connected.rail(0).port;
        self.connected.lanes[0].post_quietly([credit], name).map_err(|error| failure(port, &error))?;
        self.eager_told = consumed;
        Ok(())
    }

    fn reap(&mut self, rail: usize, arrived: &mut impl FnMut(Arrival)) -> Result<usize, Failure> {
        let Self { control, connected, inbox, flush, .. } = self;
        let (mut broken, mut refused) = (None, Ok(()));
        let (lanes, Rail { port, completions, .. }) = (&mut connected.lanes, &connected.rails[rail]);
        let taken = completions.poll::<COMPLETIONS>(|completion| {
            if !completion.succeeded() {
                // What failed by itself is the cause; the rest is only flushed.
                if broken.is_none_or(|first: Completion| first.flushed()) {
                    broken = Some(completion);
                }
                return;
            }
            let result = if let Some(immediate) = completion.immediate {
                let given_back = lanes[completion.id as usize].received(completion.id);
                let given_back = given_back.map_err(|error| failure(port, &error));
                given_back.and_then(|()| inbox.take(immediate, completion.bytes, arrived))
            } else {
                let Name { kind, lane, request, place } = Name::decode(completion.id);
                match flush.as_mut().filter(|_| kind == Kind::Flush) {
                    Some(flush) => {
                        if flush.complete(lane, request, place) {
                            arrived(Arrival { request, part: 0, bytes: 0 });
                        }
                    }
                    None => lanes[lane].complete(place),
                }
                Ok(())
            };
            if refused.is_ok() {
                refused = result;
            }
        });
        let taken = taken.map_err(|error| failure(port, &error))?;
        refused?;
        match broken {
            Some(completion) => Err(failed(control, port, &completions.explain(&completion))),
            None => Ok(taken),
        }
    }
}
