//! The receiving half of a TCP link: bytes from the socket into slots, then the flag.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::layout::{FLAG_IN_TRAILER, LINE, Layout};
use crate::link::LinkFailure;
use crate::message::{HEADER_BYTES, Header};
use crate::wire::would_wait;

/// One read takes in several small messages; above half of this, payloads are read straight into their slot.
const INPUT_BYTES: usize = 64 * 1024;
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
        Self { rank, peer, layout, input, start: 0, end: 0, received: 0, partial: None, closed: None }
    }

    /// Takes in everything the socket has. Returns at once when it has nothing.
    pub(super) fn receive(&mut self, stream: &TcpStream, arena: &Arena) -> Result<(), LinkFailure> {
        if let Some(closed) = self.closed {
            let unexplained = closed.elapsed() > EXPLANATION;
            return if unexplained { Err("the peer closed the data connection".to_owned()) } else { Ok(()) };
        }
        loop {
            let room = self.room();
            match self.read(stream, arena) {
                Ok(0) => {
                    self.closed = Some(Instant::now());
                    return Ok(());
                }
                Ok(count) => {
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

    /// Bytes of a payload that are still to come, if they are so many that they are read straight into their slot.
    fn outstanding(&self) -> Option<usize> {
        let partial = self.partial.as_ref()?;
        Some(partial.header.bytes_in_slot() - partial.filled).filter(|missing| *missing > INPUT_BYTES / 2)
    }

    /// How much the next read can take.
    fn room(&self) -> usize {
        self.outstanding().unwrap_or(self.input.len() - (self.end - self.start))
    }

    /// One read: into the slot when much of a payload is outstanding, else into the input buffer.
    fn read(&mut self, mut stream: &TcpStream, arena: &Arena) -> io::Result<usize> {
        debug_assert!(self.partial.is_none() || self.start == self.end, "delivered before reading");
        if let (Some(missing), Some(partial)) = (self.outstanding(), &mut self.partial) {
            let slot = self.layout.slot(self.rank, self.peer, self.received + 1);
            let count = stream.read(arena.slot_mut(slot + partial.filled, missing))?;
            partial.filled += count;
            return Ok(count);
        }
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let count = stream.read(&mut self.input[self.end..])?;
        self.end += count;
        Ok(count)
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
        self.partial = Some(Partial { header, filled: 0 });
        Ok(true)
    }
}
