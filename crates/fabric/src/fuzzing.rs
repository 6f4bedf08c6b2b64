//! What a fuzzer tries: everything that a peer can send, read by the code that reads it in earnest. An error, a message, or
//! a wait for more are right; a panic or a loop without end is not. `fuzz/` drives these with coverage, the tests below
//! with chance.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::interrupt::Interrupt;
use crate::key::Key;
use crate::wire::{Connection, PREAMBLE_BYTES, Preamble};
use crate::{bootstrap as meeting, control, mesh, tcp};

/// A socket that never blocks: it gives its bytes in pieces, between which it has none.
#[derive(Debug)]
pub struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
    empty: bool,
}

impl<'a> Pieces<'a> {
    /// `bytes`, `piece` of them (or one) at a time.
    pub fn new(bytes: &'a [u8], piece: usize) -> Self {
        Self { rest: bytes, piece: piece.max(1), empty: false }
    }

    /// Whether everything has been read.
    pub fn ended(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.empty = !self.empty;
        if !self.empty && !self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.rest.len().min(self.piece).min(buffer.len());
        let (now, later) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.rest = later;
        Ok(count)
    }

    /// As a socket does it: a piece may fill one buffer and go on in the next.
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut whole = vec![0; buffers.iter().map(|buffer| buffer.len()).sum()];
        let count = self.read(&mut whole)?;
        let mut rest = &whole[..count];
        for buffer in buffers {
            let (now, later) = rest.split_at(rest.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            rest = later;
        }
        Ok(count)
    }
}

/// The preamble, and the frames of the rendezvous and between ranks.
pub fn bootstrap(bytes: &[u8]) {
    if let Some(preamble) = bytes.first_chunk::<PREAMBLE_BYTES>() {
        let _ = Preamble::decode(preamble).map(|read| assert_eq!(&read.encode(), preamble));
    }
    meeting::fuzzing::read_frames(bytes);
    if let Some((kind, bytes)) = bytes.split_first() {
        converse(*kind, bytes);
    }
}

/// A caller of a listening rank that says these bytes and no more.
fn converse(kind: u8, bytes: &[u8]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let Ok((mut caller, answering)) = loopback() else { return };
    // What is said fits the socket's buffer; the rest would only wait.
    if caller.write_all(&bytes[..bytes.len().min(32 * 1024)]).is_err()
        || caller.shutdown(Shutdown::Write).is_err()
    {
        return;
    }
    if kind.is_multiple_of(2) {
        let caller = Connection::answer(answering, 0, &Key::new("k"), deadline);
        assert!(caller.is_err(), "nobody guesses a proof");
    } else {
        meeting::fuzzing::receive_one(
            Connection { stream: answering, peer: "a fuzzer".to_owned(), interrupt: Interrupt::default() },
            deadline,
        );
    }
    assert!(Instant::now() < deadline, "the end of the bytes is the end of the wait");
}

/// Two ends of a connection that leaves nothing behind: closing the first one resets it.
fn loopback() -> io::Result<(TcpStream, TcpStream)> {
    thread_local! {
        static LISTENER: TcpListener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    }
    LISTENER.with(|listener| {
        let caller = TcpStream::connect(listener.local_addr()?)?;
        socket2::SockRef::from(&caller).set_linger(Some(Duration::ZERO))?;
        Ok((caller, listener.accept()?.0))
    })
}

/// A peer's control connection.
pub fn control(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let mut input = Vec::new();
    for piece in bytes.chunks(usize::from(*piece).max(1)) {
        input.extend_from_slice(piece);
        control::notices(&mut input);
    }
}

/// A peer's side of a TCP link, and a message that its NIC has written.
pub fn link(bytes: &[u8]) {
    if let Some((piece, bytes)) = bytes.split_first() {
        tcp::fuzzing::stream(bytes, usize::from(*piece));
    }
    if let Some(trailer) = bytes.first_chunk() {
        let _ = mesh::read_trailer(trailer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{PROTOCOL_VERSION, Purpose, encode_frame};
    use proptest::prelude::*;

    /// Bytes, and bytes that begin as the real thing does.
    fn near(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let valid = proptest::sample::select(valid);
        let flips = proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4);
        let noise = proptest::collection::vec(any::<u8>(), 0..300);
        let mutated = (valid, flips, noise.clone()).prop_map(|(mut bytes, flips, noise)| {
            for (at, value) in flips {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes.extend(noise);
            bytes
        });
        prop_oneof![1 => noise, 3 => mutated]
    }

    fn trailer(length: u64, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[24..32].copy_from_slice(&length.to_le_bytes());
        bytes[56..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    fn with(first: u8, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.insert(0, first);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn bootstrap_reads_or_refuses(bytes in near({
            let preamble = Preamble { version: PROTOCOL_VERSION, purpose: Purpose::Store as u32, rank: 1, nonce: [7; 32] };
            let mut frames = crate::bootstrap::fuzzing::valid_frames();
            frames.push(preamble.encode().to_vec());
            frames.iter().flat_map(|frame| [frame.clone(), with(0, frame.clone()), with(1, frame.clone())]).collect()
        })) {
            bootstrap(&bytes);
        }

        #[test]
        fn control_reads_or_refuses(bytes in near(vec![
            with(3, encode_frame(&2u8)), with(200, encode_frame(&(2u8, "a reason"))), with(1, vec![255; 8]),
        ])) {
            control(&bytes);
        }

        #[test]
        fn links_read_or_refuse(bytes in near(vec![
            trailer(0, 1), trailer(24, 1), trailer(128, 1), trailer(129, 1), trailer(u64::MAX, 1),
            with(50, [trailer(100, 1), vec![1; 100], trailer(256, 2), vec![2; 256], trailer(0, 0)].concat()),
            with(255, [trailer(3, 1), trailer(257, 2)].concat()),
        ])) {
            link(&bytes);
        }
    }
}
