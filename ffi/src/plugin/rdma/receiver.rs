//! The receiving half of an RDMA connection.

use std::sync::Arc;

use halo_verbs::{MemoryRegion, WorkRequest};

use super::flush::Flush;
use super::lane::{Kind, Name};
use super::layout::{self, EagerRecord, RECORD_BYTES, Slot, read_word};
use super::{Connected, failure};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::{Arrival, Failure, Incoming};
use crate::plugin::device::Device;
use crate::plugin::error::PluginError;
use crate::plugin::protocol::{
    ANNOUNCEMENT_BYTES, Announcement, EAGER_SLOTS, Entry, KIND_ANNOUNCE, MAX_LANES, PROTOCOL_VERSION, Posted,
    Striping, TagCounters,
};

/// Completions taken per look.
const COMPLETIONS: usize = 16;

#[derive(Debug)]
pub(crate) struct Receiver {
    control: Control,
    // Queue pairs go before the memory that they work on.
    flush: Option<Flush>,
    connected: Connected,
    striping: Striping,
    eager_bytes: usize,
    counted: TagCounters,
    posted: Posted<Option<Arc<MemoryRegion>>>,
    announced: u64,
    /// Eager messages seen, and those of them whose receives have not been posted.
    eager_seen: u64,
    early: Vec<u64>,
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
        Ok(Self {
            control,
            flush,
            connected,
            striping,
            eager_bytes,
            counted: TagCounters::default(),
            posted: Posted::default(),
            announced: 0,
            eager_seen: 0,
            early: Vec::new(),
            eager_told: 0,
        })
    }

    /// Receives that can still be posted: none while the queue for announcements is full.
    pub(crate) fn room(&mut self) -> Result<usize, Failure> {
        // Two writes of announcements (the ring may wrap), their count, and a credit.
        if !self.connected.lanes[0].has_room(4) {
            self.reap(&mut |_| {})?;
        }
        Ok(if self.connected.lanes[0].has_room(4) { self.posted.room() } else { 0 })
    }

    /// Posts the parts of a receive and announces them, in one or two writes and one word.
    pub(crate) fn post(&mut self, request: usize, parts: &[Incoming<'_>]) -> Result<(), Failure> {
        let first = self.announced;
        for (part, incoming) in parts.iter().enumerate() {
            let Incoming { tag, data, room, memory } = *incoming;
            let index = self.counted.next(tag);
            self.counted.advance(tag);
            let region = memory.and_then(|memory| memory.region.clone());
            let key = region.as_ref().map_or(0, |region| region.remote_key());
            let entry = Entry { tag, index, data, room, request, part, _memory: region };
            let (place, generation) = self.posted.insert(entry);
            for lane in 0..MAX_LANES {
                self.connected.arena.store(layout::receiver::flag(place, lane), 0);
            }
            let announcement = Announcement {
                kind: KIND_ANNOUNCE,
                version: PROTOCOL_VERSION,
                tag,
                slot: place as u32,
                generation,
                key,
                index,
                room,
                address: data as u64,
                ..Announcement::credit(0)
            };
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
        let region = written.memory.and_then(|memory| memory.region.as_ref());
        let (Some(flush), Some(region)) = (&mut self.flush, region) else {
            return Err(Failure::Protocol("GPU memory on a connection without GPU-direct".to_owned()));
        };
        flush
            .post(request, region, written.data as u64 + written.room - 1)
            .map_err(|error| failure(port, &error))
    }

    /// Looks at the flags; `arrived` is told every part that is complete.
    pub(crate) fn progress(&mut self, mut arrived: impl FnMut(Arrival)) -> Result<(), Failure> {
        self.take_eager(&mut arrived)?;
        self.take_written(&mut arrived)?;
        self.reap(&mut arrived)?;
        self.control.now_and_then();
        if self.posted.is_empty() {
            return Ok(());
        }
        // What an orderly peer has written is complete before it closes: the flags have had their look.
        match self.control.ended() {
            Some(cause) if self.control.lost().is_some() || !self.anything_new() => {
                Err(Failure::Lost(cause.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a flag was raised since the last look.
    fn anything_new(&self) -> bool {
        let slot = Slot::of(layout::receiver::SLOTS, self.eager_seen, self.eager_bytes);
        self.connected.arena.load(slot.flag) == self.eager_seen + 1
            || self.posted.in_order().any(|place| {
                let word = self.connected.arena.load(layout::receiver::flag(place, 0));
                read_word(word).0 == self.posted.generation(place)
            })
    }

    fn take_eager(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        if self.eager_bytes == 0 {
            return Ok(());
        }
        let waiting = self.early.len();
        loop {
            let slot = Slot::of(layout::receiver::SLOTS, self.eager_seen, self.eager_bytes);
            if self.early.len() >= EAGER_SLOTS || self.connected.arena.load(slot.flag) != self.eager_seen + 1
            {
                break;
            }
            self.early.push(self.eager_seen);
            self.eager_seen += 1;
        }
        if waiting == 0 && self.early.is_empty() {
            return Ok(());
        }
        let mut early = std::mem::take(&mut self.early);
        let mut result = Ok(());
        early.retain(|number| match self.hand_out(*number, arrived) {
            Ok(handed) => !handed,
            Err(failure) => {
                result = Err(failure);
                true
            }
        });
        self.early = early;
        result?;
        self.tell_credit()
    }

    /// Copies an eager message into its receive, if that has been posted.
    fn hand_out(&mut self, number: u64, arrived: &mut impl FnMut(Arrival)) -> Result<bool, Failure> {
        let slot = Slot::of(layout::receiver::SLOTS, number, self.eager_bytes);
        let record = self.connected.arena.read(slot.record, RECORD_BYTES);
        let EagerRecord { tag, bytes, index } = bytemuck::pod_read_unaligned(record);
        let length = bytes as usize;
        if length > self.eager_bytes {
            return Err(Failure::Protocol(format!("{length} bytes in a slot of {}", self.eager_bytes)));
        }
        let Some(place) = self.posted.find(tag, index) else { return Ok(false) };
        let Some(Entry { data, room, request, part, .. }) = self.posted.remove(place) else {
            return Ok(false);
        };
        if u64::from(bytes) > room {
            return Err(Failure::Truncation { tag, bytes: u64::from(bytes), room });
        }
        if length > 0 {
            let payload = self.connected.arena.read(slot.payload(length), length);
            // SAFETY: the core lends the buffer until the request is complete; it has room, and the arena is this
            // process's own.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), data, length) };
        }
        arrived(Arrival { request, part, bytes: u64::from(bytes) });
        Ok(true)
    }

    /// Tells how many slots are free again, when that is half of them: all before the oldest that is still in use.
    fn tell_credit(&mut self) -> Result<(), Failure> {
        let consumed = self.early.iter().copied().min().unwrap_or(self.eager_seen);
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

    fn take_written(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let mut complete: [Option<(usize, u64)>; 16] = [None; 16];
        let mut count = 0;
        for place in self.posted.in_order() {
            let generation = self.posted.generation(place);
            let word = |lane| read_word(self.connected.arena.load(layout::receiver::flag(place, lane)));
            let (seen, bytes) = word(0);
            if seen != generation {
                continue;
            }
            let parts = self.striping.parts(bytes).count();
            if (1..parts).all(|lane| word(lane) == (generation, bytes)) && count < complete.len() {
                complete[count] = Some((place, bytes));
                count += 1;
            }
        }
        for (place, bytes) in complete.into_iter().flatten() {
            let Some(Entry { room, request, part, tag, .. }) = self.posted.remove(place) else { continue };
            if bytes > room {
                return Err(Failure::Truncation { tag, bytes, room });
            }
            arrived(Arrival { request, part, bytes });
        }
        Ok(())
    }

    fn reap(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<(), Failure> {
        let Self { connected, flush, .. } = self;
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
        broken.map_or(Ok(()), |completion| Err(failure(port, &connected.completions.explain(&completion))))
    }
}
