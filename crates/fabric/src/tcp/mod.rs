//! TCP: a message is its 64-byte trailer (header and number) followed by the payload, unless that is short and in the header. The receiver's own thread,
//! polling for the flag, moves the bytes into its arena and raises the flag itself, so that everything above sees
//! the same memory as with the other transports. A frame with number 0 carries credit alone.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod receiver;
mod sender;

use std::io;
use std::net::TcpStream;

use rustix::event::PollFd;

use crate::arena::Arena;
use crate::doorbell;
use crate::layout::Layout;
use crate::link::{Alarm, Link, LinkFailure};
use crate::message::Outgoing;

use receiver::Receiver;
use sender::Sender;

/// A link over one TCP connection.
#[derive(Debug)]
pub(crate) struct TcpLink {
    stream: TcpStream,
    sender: Sender,
    receiver: Receiver,
}

impl TcpLink {
    /// A link over a connection whose other end is known to be `peer`.
    pub(crate) fn new(stream: TcpStream, rank: usize, peer: usize, layout: Layout) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, sender: Sender::new(layout), receiver: Receiver::new(rank, peer, layout) })
    }
}

impl Link for TcpLink {
    fn ready(&mut self) -> bool {
        self.sender.ready()
    }

    fn write(&mut self, _arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        self.sender.send(&self.stream, message).map_err(|error| error.to_string())
    }

    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.sender.send(&self.stream, &Outgoing::credit(consumed)).map_err(|error| error.to_string())
    }

    fn progress(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.sender.flush(&self.stream).map_err(|error| error.to_string())?;
        self.receiver.receive(&self.stream, arena, consumed)
    }

    fn flushed(&self) -> bool {
        self.sender.is_empty()
    }

    fn alarm(&self) -> Alarm<'_> {
        Alarm::Socket(PollFd::new(&self.stream, doorbell::interest(!self.sender.is_empty())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FLAG_IN_TRAILER;
    use crate::message::{SHORT_BYTES, Tag};
    use proptest::prelude::*;
    use std::net::TcpListener;

    const LAYOUT: Layout = Layout { world: 2, slot_bytes: 128 * 1024, slots: 2 };

    fn pair() -> (TcpLink, TcpLink, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, _) = listener.accept().unwrap();
        let raw = there.try_clone().unwrap();
        (TcpLink::new(here, 0, 1, LAYOUT).unwrap(), TcpLink::new(there, 1, 0, LAYOUT).unwrap(), raw)
    }

    fn flag(number: u64) -> usize {
        LAYOUT.slot(0, 1, number) + LAYOUT.slot_bytes + FLAG_IN_TRAILER
    }

    fn check(arena: &Arena, number: u64, payload: &[u8]) -> Result<(), TestCaseError> {
        let slot = LAYOUT.slot(0, 1, number);
        let header = arena.read_header(slot + LAYOUT.slot_bytes);
        prop_assert_eq!((header.operation, header.length as usize), (number, payload.len()));
        let length = payload.len();
        let arrived = if length <= SHORT_BYTES { &header.short[..length] } else { arena.read(slot, length) };
        prop_assert!(arrived == payload, "message {} of {} bytes", number, length);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// As many messages as there are slots at once, credit between them; a slot that is not given back keeps what
        /// it holds, whatever else comes.
        #[test]
        fn every_payload_arrives_as_it_was(
            lengths in proptest::collection::vec(prop_oneof![0usize..200, 0usize..=LAYOUT.slot_bytes], 1..12),
            credits in 0u64..4,
        ) {
            let (mut receiver, mut sender, _raw) = pair();
            let arena = Arena::allocate(LAYOUT.arena_bytes()).unwrap();
            let fill = |at: usize, number: u64| (at * 31 + number as usize) as u8;
            let messages: Vec<(u64, Vec<u8>)> = (1..).zip(&lengths)
                .map(|(number, length)| (number, (0..*length).map(|at| fill(at, number)).collect()))
                .collect();
            let mut credit = 0;
            for batch in messages.chunks(LAYOUT.slots) {
                let consumed = batch[0].0 - 1;
                for (number, payload) in batch {
                    let tag = Tag { operation: *number, size: payload.len() as u64 };
                    sender.write(&arena, &Outgoing { number: *number, tag, consumed: 5, payload }).unwrap();
                    for _ in 0..credits {
                        credit += 1;
                        sender.write_credit(&arena, credit).unwrap();
                    }
                }
                let last = batch[batch.len() - 1].0;
                while arena.load(flag(last)) != last || arena.load(LAYOUT.credit(0, 1)) != credit {
                    sender.progress(&arena, 0).unwrap();
                    receiver.progress(&arena, consumed).unwrap();
                }
                for (number, payload) in batch {
                    check(&arena, *number, payload)?;
                }
            }
            prop_assert!(sender.flushed());
        }
    }

    #[test]
    fn credit_alone_arrives_in_the_credit_line() {
        let (mut receiver, mut sender, _raw) = pair();
        let arena = Arena::allocate(LAYOUT.arena_bytes()).unwrap();
        sender.write_credit(&arena, 17).unwrap();
        while arena.load(LAYOUT.credit(0, 1)) != 17 {
            receiver.progress(&arena, 0).unwrap();
        }
    }

    #[test]
    fn frames_that_make_no_sense_break_the_link_and_nothing_else() {
        use std::io::Write;
        for (number, length) in [(2u64, 0u32), (1, u32::MAX)] {
            let (mut receiver, _sender, mut raw) = pair();
            let arena = Arena::allocate(LAYOUT.arena_bytes()).unwrap();
            let mut frame = [0u8; 64];
            frame[24..28].copy_from_slice(&length.to_le_bytes());
            frame[56..].copy_from_slice(&number.to_le_bytes());
            raw.write_all(&frame).unwrap();
            let failure = loop {
                if let Err(failure) = receiver.progress(&arena, 0) {
                    break failure;
                }
            };
            assert!(failure.contains("frame"), "{failure}");
        }
    }
}
