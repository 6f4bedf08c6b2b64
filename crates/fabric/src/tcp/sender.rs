//! The sending half of one socket: one gathered write per message or part of one; what the socket does not take waits here.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::layout::Layout;
use crate::wire::would_wait;

#[derive(Debug)]
pub(super) struct Sender {
    /// Bytes the socket has not taken, from `sent` on.
    backlog: Vec<u8>,
    sent: usize,
    slot_bytes: usize,
}

impl Sender {
    pub(super) fn new(layout: Layout) -> Self {
        // Room for what `ready` lets in, so that the hot path never allocates; pages are touched only when used.
        Self { backlog: Vec::with_capacity(4 * layout.slot_stride()), sent: 0, slot_bytes: layout.slot_bytes }
    }

    /// Whether another message would not pile up behind much that waits already.
    pub(super) fn ready(&self) -> bool {
        self.backlog.len() - self.sent <= self.slot_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Sends a trailer, or none, and the payload behind it.
    pub(super) fn send(&mut self, stream: &TcpStream, trailer: &[u8], payload: &[u8]) -> io::Result<()> {
        self.flush(stream)?;
        let mut taken = 0;
        if self.is_empty() {
            let parts = [IoSlice::new(trailer), IoSlice::new(payload)];
            // Not `write_vectored`, which is writev(2): a peer that has gone must not be a signal to a program in C.
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = sendmsg(stream, &parts, &mut SendAncillaryBuffer::default(), flags);
            taken = match sent.map_err(io::Error::from) {
                Ok(count) => count,
                Err(error) if would_wait(&error) => 0,
                Err(error) => return Err(error),
            };
        }
        self.backlog.extend_from_slice(&trailer[taken.min(trailer.len())..]);
        self.backlog.extend_from_slice(&payload[taken.saturating_sub(trailer.len())..]);
        Ok(())
    }

    pub(super) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        while self.sent < self.backlog.len() {
            match stream.write(&self.backlog[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.backlog.clear();
        self.sent = 0;
        Ok(())
    }
}
