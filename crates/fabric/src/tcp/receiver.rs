//! The receiving half of a TCP link: bytes from the socket into slots, then the flag.

use std::io::{self, IoSliceMut, Read};
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::layout::{FLAG_IN_TRAILER, LINE, Layout};
use crate::link::LinkFailure;
use crate::message::{HEADER_BYTES, Header};
use crate::wire::would_wait;

/// What one read takes in beside what goes straight into a slot: several small messages.
const INPUT_BYTES: usize = 64 * 1024;
/// A payload of which more than this is outstanding is read straight into its slot.
const STRAIGHT_BYTES: usize = INPUT_BYTES / 2;
/// How long the control connection has to explain why the data connection was closed.
const EXPLANATION: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Receiver {
    rank: usize,
    peer: usize,
    layout: Layout,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes behind the input's that were read into the next slot.
    ahead: usize,
    /// Messages received whole.
    received: u64,
    partial: Option<Partial>,
    closed: Option<Instant>,
}

/// A message whose payload is still arriving.
#[derive(Debug)]
struct Partial {
    header: Header,
    filled: usize,
}

impl Receiver {
    pub(super) fn new(rank: usize, peer: usize, layout: Layout) -> Self {
        let input = vec![0; INPUT_BYTES].into_boxed_slice();
        Self {
            rank,
            peer,
            layout,
            input,
            start: 0,
            end: 0,
            ahead: 0,
            received: 0,
            partial: None,
            closed: None,
        }
    }

    /// Takes in everything the socket has. Returns at once when it has nothing. `consumed` of the peer's messages have
    /// been given back, so that their slots are free.
    pub(super) fn receive(
        &mut self,
        mut stream: impl Read,
        arena: &Arena,
        consumed: u64,
    ) -> Result<(), LinkFailure> {
        if let Some(closed) = self.closed {
            let unexplained = closed.elapsed() > EXPLANATION;
            return if unexplained { Err("the peer closed the data connection".to_owned()) } else { Ok(()) };
        }
        loop {
            match self.read(&mut stream, arena, consumed) {
                Ok((0, _)) => {
                    self.closed = Some(Instant::now());
                    return Ok(());
                }
                Ok((count, room)) => {
                    self.deliver(arena)?;
                    // The socket had no more; to ask again at once would be a system call for nothing.
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// One read; how many bytes came, and for how many there was room.
    fn read(&mut self, stream: &mut impl Read, arena: &Arena, consumed: u64) -> io::Result<(usize, usize)> {
        debug_assert!(self.partial.is_none() || self.start == self.end, "delivered before reading");
        let slot = self.layout.slot(self.rank, self.peer, self.received + 1);
        if let Some(partial) = &mut self.partial {
            let missing = partial.header.bytes_in_slot() - partial.filled;
            if missing > STRAIGHT_BYTES {
                let count = stream.read(arena.slot_mut(slot + partial.filled, missing))?;
                partial.filled += count;
                return Ok((count, missing));
            }
        } else if self.start == self.end && self.received - consumed < self.layout.slots as u64 {
            return self.read_ahead(stream, arena, slot);
        }
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let room = self.input.len() - self.end;
        let count = stream.read(&mut self.input[self.end..])?;
        self.end += count;
        Ok((count, room))
    }

    /// Reads where a message is about to begin: its trailer into the input buffer, and what follows into its slot, where
    /// it belongs unless the message turns out to be short.
    fn read_ahead(
        &mut self,
        stream: &mut impl Read,
        arena: &Arena,
        slot: usize,
    ) -> io::Result<(usize, usize)> {
        let (trailer, _) = self.input.split_at_mut(LINE);
        // No more than the input buffer could take back.
        let payload = arena.slot_mut(slot, self.layout.slot_bytes.min(INPUT_BYTES));
        let room = LINE + payload.len();
        let count = stream.read_vectored(&mut [IoSliceMut::new(trailer), IoSliceMut::new(payload)])?;
        (self.start, self.end) = (0, count.min(LINE));
        self.ahead = count - self.end;
        Ok((count, room))
    }

    /// Moves whole messages, and parts of the next, from the input buffer into slots.
    fn deliver(&mut self, arena: &Arena) -> Result<(), LinkFailure> {
        loop {
            if self.partial.is_none() && !self.begin(arena)? {
                return Ok(());
            }
            let Some(partial) = &mut self.partial else { continue };
            let number = self.received + 1;
            let slot = self.layout.slot(self.rank, self.peer, number);
            let missing = partial.header.bytes_in_slot() - partial.filled;
            let here = missing.min(self.end - self.start);
            arena.write(slot + partial.filled, &self.input[self.start..self.start + here]);
            self.start += here;
            partial.filled += here;
            if here < missing {
                return Ok(());
            }
            let trailer = slot + self.layout.slot_bytes;
            arena.write_header(trailer, &partial.header);
            arena.store(trailer + FLAG_IN_TRAILER, Header::flag(number));
            self.received = number;
            self.partial = None;
        }
    }

    /// Reads the next trailer, if it is here whole. Credit is stored at once; a message becomes the partial one.
    fn begin(&mut self, arena: &Arena) -> Result<bool, LinkFailure> {
        let Some(trailer) = self.input[self.start..self.end].first_chunk::<LINE>() else { return Ok(false) };
        let header: Header = bytemuck::pod_read_unaligned(&trailer[..HEADER_BYTES]);
        let number = u64::from_ne_bytes(trailer[HEADER_BYTES..].try_into().expect("eight bytes"));
        self.start += LINE;
        if number == 0 {
            arena.store(self.layout.credit(self.rank, self.peer), header.consumed);
            self.take_back(arena, 0);
            return Ok(true);
        }
        if number != self.received + 1 {
            return Err(format!("a frame numbered {number} came after number {}", self.received));
        }
        if header.length > self.layout.slot_bytes as u64 {
            return Err(format!(
                "a frame of {} bytes for a slot of {}",
                header.length, self.layout.slot_bytes
            ));
        }
        let filled = header.bytes_in_slot().min(self.ahead);
        self.take_back(arena, filled);
        self.partial = Some(Partial { header, filled });
        Ok(true)
    }

    /// Puts what was read into the slot beyond the `belonging` bytes of its message behind the input: frames follow.
    fn take_back(&mut self, arena: &Arena, belonging: usize) {
        let more = std::mem::take(&mut self.ahead) - belonging;
        if more > 0 {
            let slot = self.layout.slot(self.rank, self.peer, self.received + 1);
            self.input[..more].copy_from_slice(arena.read(slot + belonging, more));
            (self.start, self.end) = (0, more);
        }
    }
}
