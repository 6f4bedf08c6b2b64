//! Over TCP with `MSG_ZEROCOPY`: the kernel takes the payload from where it lies and says when it is done with it.

use std::io::{Read, Write};
use std::mem::take;
use std::net::TcpStream;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::notices::{self, Notice};
use super::tcp::BUFFERS;
use super::{Outcome, Pair, Partner, moved, only_payloads};
use crate::buffer::Buffer;

/// rustix has no name for it.
const ZEROCOPY: SendFlags = SendFlags::from_bits_retain(libc::MSG_ZEROCOPY as u32);

/// One end of a connection.
#[derive(Debug)]
pub struct Zerocopy {
    stream: TcpStream,
    /// In turn, so that a payload's memory is needed again only in the exchange after next: the kernel holds it until
    /// the other rank's has acknowledged it, which may be long after it arrived.
    own: [Buffer; BUFFERS],
    theirs: [Buffer; BUFFERS],
    turn: usize,
    /// Sends from each of `own` that the kernel has not spoken of yet.
    awaited: [u32; BUFFERS],
    /// Number of the next send, and of the first in this turn.
    next: u32,
    first: u32,
    /// Sends that the kernel has spoken of, and those of them that it copied.
    noticed: u32,
    copied: u32,
}

impl Zerocopy {
    /// A connection to the other rank, for payloads of at most `most` bytes.
    ///
    /// # Errors
    /// The system refused a socket, or such sends on it.
    pub fn connect(partner: &mut Partner, most: usize) -> Outcome<Self> {
        Self::over(partner.connect_again()?, most)
    }

    pub(super) fn over(stream: TcpStream, most: usize) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        notices::enable(&stream).map_err(|error| format!("SO_ZEROCOPY: {error}"))?;
        let [own, theirs] = std::array::from_fn(|_| std::array::from_fn(|_| Buffer::new(most)));
        let awaited = [0; BUFFERS];
        Ok(Self { stream, own, theirs, turn: 0, awaited, next: 0, first: 0, noticed: 0, copied: 0 })
    }

    fn send(&mut self, from: usize, to: usize) -> std::io::Result<usize> {
        let buffer = self.turn % BUFFERS;
        let payload = &self.own[buffer][from..to];
        match rustix::net::send(&self.stream, payload, ZEROCOPY | SendFlags::NOSIGNAL) {
            Ok(bytes) => {
                self.next = self.next.wrapping_add(1);
                self.awaited[buffer] += 1;
                Ok(bytes)
            }
            // No memory for its books, or more pages than this user may hold: those go as ever.
            Err(Errno::NOBUFS) => {
                let bytes = moved(self.stream.write(payload))?;
                self.noticed += u32::from(bytes > 0);
                self.copied += u32::from(bytes > 0);
                Ok(bytes)
            }
            Err(error) => moved(Err(error.into())),
        }
    }

    /// Goes on to the next turn, once its payload may be written.
    fn begin(&mut self) -> Outcome {
        // Its memory was sent in the turn before this one; no other send is awaited than of these two.
        let (older, newer) = ((self.turn + 1) % BUFFERS, self.turn % BUFFERS);
        while self.awaited[older] > 0 {
            let Some(Notice { first, sends, copied }) = notices::next(&self.stream)? else { continue };
            self.noticed += sends;
            self.copied += if copied { sends } else { 0 };
            for send in 0..sends {
                // Numbers begin anew after 2^32.
                let after = first.wrapping_add(send).wrapping_sub(self.first) as i32;
                self.awaited[if after < 0 { older } else { newer }] -= 1;
            }
        }
        self.turn += 1;
        self.first = self.next;
        Ok(())
    }
}

impl Pair for Zerocopy {
    fn exchange(&mut self, bytes: usize, flagged: bool) -> Outcome {
        only_payloads(flagged)?;
        self.begin()?;
        let (mut gone, mut come) = (0, 0);
        while gone < bytes || come < bytes {
            if gone < bytes {
                gone += self.send(gone, bytes)?;
            }
            if come < bytes {
                come += moved(self.stream.read(&mut self.theirs[self.turn % BUFFERS][come..bytes]))?;
            }
        }
        Ok(())
    }

    fn inputs(&self, bytes: usize) -> (&[u8], &[u8]) {
        (&self.own[self.turn % BUFFERS][..bytes], &self.theirs[self.turn % BUFFERS][..bytes])
    }

    fn copied(&mut self) -> Option<f64> {
        let (noticed, copied) = (take(&mut self.noticed), take(&mut self.copied));
        (noticed > 0).then(|| f64::from(copied) / f64::from(noticed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::trial;

    #[test]
    fn what_is_sent_from_where_it_lies_arrives() {
        trial::exchange(Zerocopy::connect, |pair, rank| {
            for own in &mut pair.own {
                trial::write(own, rank);
            }
        });
    }
}
