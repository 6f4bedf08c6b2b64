//! Over TCP: plain calls on one socket that is asked again and again.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;

use super::{Outcome, Pair, Partner};
use crate::buffer::Buffer;

/// What goes before a payload to say what it is: as much as halo's own.
const HEADER: usize = 64;
/// Buffers that payloads come into, in turn: a peer may be one ahead.
pub(super) const BUFFERS: usize = 2;

/// One end of a connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    own: Buffer,
    theirs: [Buffer; BUFFERS],
    header: [u8; HEADER],
    turn: usize,
}

impl Socket {
    /// A connection to the other rank, for payloads of at most `most` bytes.
    ///
    /// # Errors
    /// The system refused a socket.
    pub fn connect(partner: &mut Partner, most: usize) -> Outcome<Self> {
        let stream = partner.connect_again()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let theirs = std::array::from_fn(|_| Buffer::new(most));
        Ok(Self { stream, own: Buffer::new(most), theirs, header: [0; HEADER], turn: 0 })
    }
}

impl Pair for Socket {
    fn exchange(&mut self, bytes: usize, flagged: bool) -> Outcome {
        self.turn += 1;
        let header = if flagged { HEADER } else { 0 };
        let theirs = &mut self.theirs[self.turn % BUFFERS];
        let (own_header, their_header) = ([1; HEADER], &mut self.header);
        let (all, mut gone, mut come) = (header + bytes, 0, 0);
        while gone < all || come < all {
            if gone < all {
                let payload = &self.own[gone.saturating_sub(header)..bytes];
                gone += moved(if gone < header {
                    let parts = [IoSlice::new(&own_header[gone..]), IoSlice::new(payload)];
                    self.stream.write_vectored(&parts)
                } else {
                    self.stream.write(payload)
                })?;
            }
            if come < all {
                let payload = &mut theirs[come.saturating_sub(header)..bytes];
                come += moved(if come < header {
                    let parts = &mut [IoSliceMut::new(&mut their_header[come..]), IoSliceMut::new(payload)];
                    self.stream.read_vectored(parts)
                } else {
                    self.stream.read(payload)
                })?;
            }
        }
        Ok(())
    }

    fn inputs(&self, bytes: usize) -> (&[u8], &[u8]) {
        (&self.own[..bytes], &self.theirs[self.turn % BUFFERS][..bytes])
    }
}

/// Bytes that moved now; none is fine, the end of the connection is not.
pub(crate) fn moved(result: std::io::Result<usize>) -> std::io::Result<usize> {
    match result {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(bytes) => Ok(bytes),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    use crate::exchange::{Exchange, measure};
    use crate::line::Work;
    use crate::peers::free_port;

    #[test]
    fn both_ranks_measure_every_exchange_alike() {
        let rendezvous = format!("127.0.0.1:{}", free_port().unwrap());
        let rank = |rank| {
            let mut partner = Partner::connect(rank, &rendezvous).unwrap();
            let mut socket = Socket::connect(&mut partner, 300_000).unwrap();
            socket.own.fill(rank as u8);
            let exchanges = |bytes| Exchange::value_variants().iter().map(move |exchange| (bytes, *exchange));
            let mut lines = Vec::new();
            for (bytes, exchange) in [8, 300_000].into_iter().flat_map(exchanges) {
                let work = Work { bytes, iterations: 5 };
                lines.push(measure(&mut socket, &mut partner, work, exchange).unwrap());
                let (own, theirs) = socket.inputs(bytes);
                assert!(own.iter().all(|byte| *byte == rank as u8));
                assert!(theirs.iter().all(|byte| *byte == 1 - rank as u8), "{exchange:?} of {bytes}");
            }
            lines
        };
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| rank(1));
            (rank(0), other.join().unwrap())
        });
        assert_eq!(first, second);
        assert!(first.len() == 6 && first.iter().all(|line| line.p10_us > 0.0), "{first:?}");
    }
}
