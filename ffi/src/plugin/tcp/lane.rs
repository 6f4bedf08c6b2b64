//! One data socket, seen from the sending side: frames in order, as fast as the socket takes them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::PIECE_BYTES;
use super::header::{HEADER_BYTES, Header};
use crate::plugin::connection::stream::not_now;

/// A payload on its way.
#[derive(Debug)]
pub(super) struct Frame {
    header: [u8; HEADER_BYTES],
    data: *const u8,
    length: usize,
    /// Bytes of header and payload that the socket has taken.
    taken: usize,
    pub(super) request: usize,
}

// SAFETY: the core's buffer stays until its request is complete, and is only read, under the connection's lock.
unsafe impl Send for Frame {}

#[derive(Debug)]
pub(super) struct Lane {
    socket: TcpStream,
    queue: VecDeque<Frame>,
}

impl Lane {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, queue: VecDeque::new() }
    }

    /// Appends a part of the core's buffer: `data` is where that part begins.
    pub(super) fn push(&mut self, header: &Header, data: *const u8, request: usize) {
        let length = header.length as usize;
        self.queue.push_back(Frame { header: bytemuck::cast(*header), data, length, taken: 0, request });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends what the socket takes; `sent` is told the request of every frame that has left.
    pub(super) fn flush(&mut self, mut sent: impl FnMut(usize)) -> io::Result<()> {
        while let Some(frame) = self.queue.front_mut() {
            match frame.send(&self.socket) {
                Ok(count) => frame.taken += count,
                Err(error) if not_now(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            if frame.taken == HEADER_BYTES + frame.length {
                sent(frame.request);
                self.queue.pop_front();
            }
        }
        Ok(())
    }
}

impl Frame {
    fn send(&self, socket: &TcpStream) -> io::Result<usize> {
        let header = &self.header[self.taken.min(HEADER_BYTES)..];
        let gone = self.taken.saturating_sub(HEADER_BYTES);
        let payload: &[u8] = if self.length == 0 {
            &[]
        } else {
            // SAFETY: the core keeps the buffer, unchanged, until the request is complete; `gone` is below `length`
            // here, or the frame would have left the queue.
            unsafe { std::slice::from_raw_parts(self.data.add(gone), (self.length - gone).min(PIECE_BYTES)) }
        };
        let parts = [IoSlice::new(header), IoSlice::new(payload)];
        // Not `write`: a peer that has gone must not be a signal to a host that has not asked for it.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags)?)
    }
}
