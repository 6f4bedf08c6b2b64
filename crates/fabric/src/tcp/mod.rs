//! TCP: a message is its 64-byte trailer (header and number) followed by the payload, unless that is short and in the
//! header. The receiver's own thread, polling for the flag, moves the bytes into its arena and raises the flag itself, so
//! that everything above sees the same memory as with the other transports. A frame with number 0 carries credit alone.
//! Where a link has several sockets, large payloads are split over them ([`parts`]).

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod parts;
mod receiver;
mod sender;
mod unacknowledged;

use std::io;
use std::net::TcpStream;

use rustix::event::PollFd;

use crate::arena::Arena;
use crate::doorbell;
use crate::layout::{LINE, Layout};
use crate::link::{Alarm, Link, LinkFailure};
use crate::message::{HEADER_BYTES, Outgoing};

pub(crate) use parts::MOST_SOCKETS;
use parts::part;
use receiver::Receiver;
use sender::Sender;
use unacknowledged::unacknowledged;

/// A link over one TCP connection, or several.
#[derive(Debug)]
pub(crate) struct TcpLink {
    sockets: Vec<Socket>,
    receiver: Receiver,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    sender: Sender,
}

impl TcpLink {
    /// A link over connections whose other end is known to be `peer`; both ends have them in the same order.
    pub(crate) fn new(streams: Vec<TcpStream>, rank: usize, peer: usize, layout: Layout) -> io::Result<Self> {
        let receiver = Receiver::new(rank, peer, layout, streams.len());
        for stream in &streams {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        let socket = |stream| Socket { stream, sender: Sender::new(layout) };
        Ok(Self { sockets: streams.into_iter().map(socket).collect(), receiver })
    }

    fn send(&mut self, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        let (trailer, payload, count) = (trailer(message), message.long_payload(), self.sockets.len());
        for (index, Socket { stream, sender }) in self.sockets.iter_mut().enumerate() {
            let trailer = if index == 0 { &trailer[..] } else { &[] };
            let part = &payload[part(payload.len(), count, index)];
            if !(trailer.is_empty() && part.is_empty()) {
                sender.send(stream, trailer, part).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        let (first, further) = self.sockets.split_first().expect("a link has a socket");
        loop {
            self.receiver.receive(&first.stream, arena, consumed)?;
            // Only while parts are outstanding is any other socket looked at.
            if !self.receiver.lacks_parts() {
                return Ok(());
            }
            for (index, socket) in further.iter().enumerate() {
                self.receiver.receive_part(index + 1, &socket.stream, arena)?;
            }
            if self.receiver.lacks_parts() {
                return Ok(());
            }
        }
    }
}

fn trailer(message: &Outgoing<'_>) -> [u8; LINE] {
    let mut bytes = [0; LINE];
    bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&message.header()));
    bytes[HEADER_BYTES..].copy_from_slice(&message.number.to_ne_bytes());
    bytes
}

impl Link for TcpLink {
    fn ready(&mut self) -> bool {
        self.sockets.iter().all(|socket| socket.sender.ready())
    }

    fn write(&mut self, _arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        self.send(message)
    }

    fn write_credit(&mut self, _arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        self.send(&Outgoing::credit(consumed))
    }

    fn progress(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        for Socket { stream, sender } in &mut self.sockets {
            sender.flush(stream).map_err(|error| error.to_string())?;
        }
        self.receive(arena, consumed)
    }

    fn flushed(&self) -> bool {
        self.sockets.iter().all(|socket| socket.sender.is_empty())
    }

    fn delivered(&self) -> bool {
        let acknowledged = |socket: &Socket| unacknowledged(&socket.stream).is_ok_and(|bytes| bytes == 0);
        self.flushed() && self.sockets.iter().all(acknowledged)
    }

    fn alarm(&self) -> Alarm<'_> {
        let watched = self.sockets.iter().enumerate().map(|(index, Socket { stream, sender })| {
            PollFd::new(stream, doorbell::interest(self.receiver.awaits(index), !sender.is_empty()))
        });
        Alarm::Sockets(watched.collect())
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

    /// The two ends of a link, and the sending ends of its sockets once more.
    fn pair(sockets: usize) -> (TcpLink, TcpLink, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = |_| {
            let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener.accept().unwrap().0, there)
        };
        let (here, there): (Vec<_>, Vec<_>) = (0..sockets).map(connect).unzip();
        let raw = there.iter().map(|stream| stream.try_clone().unwrap()).collect();
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
            sockets in 1usize..4,
        ) {
            let (mut receiver, mut sender, _raw) = pair(sockets);
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
        let (mut receiver, mut sender, _raw) = pair(1);
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
            let (mut receiver, _sender, raw) = pair(1);
            let arena = Arena::allocate(LAYOUT.arena_bytes()).unwrap();
            let mut frame = [0u8; 64];
            frame[24..28].copy_from_slice(&length.to_le_bytes());
            frame[56..].copy_from_slice(&number.to_le_bytes());
            (&raw[0]).write_all(&frame).unwrap();
            let failure = loop {
                if let Err(failure) = receiver.progress(&arena, 0) {
                    break failure;
                }
            };
            assert!(failure.contains("frame"), "{failure}");
        }
    }
}
