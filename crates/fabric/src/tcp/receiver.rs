//! The receiving half of a TCP link: bytes from the sockets into slots, then the flag.

use std::io::{self, IoSliceMut, Read};
use std::time::{Duration, Instant};

use super::parts::{MOST_SOCKETS, part};
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
    sockets: usize,
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
    /// Bytes that have come of each socket's part.
    filled: [usize; MOST_SOCKETS],
}

impl Receiver {
    pub(super) fn new(rank: usize, peer: usize, layout: Layout, sockets: usize) -> Self {
        let input = vec![0; INPUT_BYTES].into_boxed_slice();
        Self {
            rank,
            peer,
            layout,
            sockets,
            input,
            start: 0,
            end: 0,
            ahead: 0,
            received: 0,
            partial: None,
            closed: None,
        }
    }

    /// Takes in everything the first socket has, up to a payload that lacks parts of the others. Returns at once when there
    /// is nothing. `consumed` of the peer's messages have been given back, so that their slots are free.
    pub(super) fn receive(
        &mut self,
        mut stream: impl Read,
        arena: &Arena,
        consumed: u64,
    ) -> Result<(), LinkFailure> {
        if self.start < self.end {
            // It came behind a payload whose other parts have come since.
            self.deliver(arena)?;
        }
        if let Some(closed) = self.closed {
            let unexplained = closed.elapsed() > EXPLANATION;
            return if unexplained { Err("the peer closed the data connection".to_owned()) } else { Ok(()) };
        }
        while self.awaits(0) {
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
        Ok(())
    }

    /// Whether a payload has begun of which other sockets than the first have not brought their parts.
    pub(super) fn lacks_parts(&self) -> bool {
        (1..self.sockets).any(|index| self.missing(index) > 0)
    }

    /// Whether socket `index` can bring anything that is waited for.
    pub(super) fn awaits(&self, index: usize) -> bool {
        if index == 0 { !(self.lacks_parts() && self.missing(0) == 0) } else { self.missing(index) > 0 }
    }

    /// Bytes that are outstanding of a socket's part of the payload that has begun.
    fn missing(&self, index: usize) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            part(partial.header.bytes_in_slot(), self.sockets, index).len() - partial.filled[index]
        })
    }

    /// Takes in what a further socket has of its part.
    pub(super) fn receive_part(
        &mut self,
        index: usize,
        mut stream: impl Read,
        arena: &Arena,
    ) -> Result<(), LinkFailure> {
        let slot = self.layout.slot(self.rank, self.peer, self.received + 1);
        while let Some(partial) = &mut self.partial {
            let part = part(partial.header.bytes_in_slot(), self.sockets, index);
            let filled = part.start + partial.filled[index];
            if filled == part.end {
                break;
            }
            match stream.read(arena.slot_mut(slot + filled, part.end - filled)) {
                Ok(0) => {
                    self.closed.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Ok(count) => partial.filled[index] += count,
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.complete(arena);
        Ok(())
    }

    /// One read; how many bytes came, and for how many there was room.
    fn read(&mut self, stream: &mut impl Read, arena: &Arena, consumed: u64) -> io::Result<(usize, usize)> {
        debug_assert!(self.partial.is_none() || self.start == self.end, "delivered before reading");
        let slot = self.layout.slot(self.rank, self.peer, self.received + 1);
        if let Some(partial) = &mut self.partial {
            let own = part(partial.header.bytes_in_slot(), self.sockets, 0);
            let missing = own.len() - partial.filled[0];
            if missing > STRAIGHT_BYTES {
                let count = stream.read(arena.slot_mut(slot + partial.filled[0], missing))?;
                partial.filled[0] += count;
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
            let here = self.missing(0).min(self.end - self.start);
            let Some(partial) = &mut self.partial else { continue };
            let slot = self.layout.slot(self.rank, self.peer, self.received + 1);
            arena.write(slot + partial.filled[0], &self.input[self.start..self.start + here]);
            self.start += here;
            partial.filled[0] += here;
            if !self.complete(arena) {
                return Ok(());
            }
        }
    }

    /// Raises the flag of the message that has begun, if all of it is here; whether it is.
    fn complete(&mut self, arena: &Arena) -> bool {
        let Some(partial) = &self.partial else { return false };
        if (0..self.sockets).any(|index| self.missing(index) > 0) {
            return false;
        }
        let number = self.received + 1;
        let trailer = self.layout.slot(self.rank, self.peer, number) + self.layout.slot_bytes;
        arena.write_header(trailer, &partial.header);
        arena.store(trailer + FLAG_IN_TRAILER, Header::flag(number));
        self.received = number;
        self.partial = None;
        true
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
        let mut filled = [0; MOST_SOCKETS];
        filled[0] = part(header.bytes_in_slot(), self.sockets, 0).len().min(self.ahead);
        self.take_back(arena, filled[0]);
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
