//! Messages: sent by the links, found in one's own arena.

use std::time::Duration;

use super::memory::IN_PLACE_BYTES;
use super::{Mesh, add};
use crate::arena::Arena;
use crate::error::FabricError;
use crate::fabric::Fabric;
use crate::layout::FLAG_IN_TRAILER;
use crate::link::{AnyLink, Link, LinkFailure};
use crate::message::{Header, Lend, MAX_RAILS, Message, Outgoing, SHORT_BYTES, SHORT_IN_TRAILER, Tag};

/// How long after a peer's good-bye its last messages may still be under way.
const LEAVING_GRACE: Duration = Duration::from_millis(500);

/// Payloads from this size on are read by a peer of this host where they lie, if they lie in a shared buffer.
const REFERRED_BYTES: usize = 4 * 1024;

/// Where the payload of a message that has arrived lies, or why it cannot be one.
#[inline]
fn payload<'a>(
    arena: &'a Arena,
    slot: usize,
    slot_bytes: usize,
    header: &Header,
) -> Result<&'a [u8], LinkFailure> {
    let length = header.bytes() as usize;
    if header.is_placed() {
        return Ok(&[]);
    }
    if length <= SHORT_BYTES {
        return Ok(arena.read(slot + slot_bytes + SHORT_IN_TRAILER, length));
    }
    if length > slot_bytes {
        return Err(format!("{length} bytes do not fit a slot of {slot_bytes} bytes"));
    }
    Ok(arena.read(slot, length))
}

/// What a fuzzer tries: a trailer with whatever a peer has written, read as the next message.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_trailer(trailer: &[u8; crate::layout::LINE]) -> Option<Result<usize, LinkFailure>> {
    const SLOT_BYTES: usize = 128;
    let arena = Arena::allocate(SLOT_BYTES + trailer.len()).expect("a page of memory");
    arena.write(SLOT_BYTES, trailer);
    let header = arrived(&arena, SLOT_BYTES, 1)?;
    Some(payload(&arena, 0, SLOT_BYTES, &header).map(<[u8]>::len))
}

/// The header of message `number`, if its trailer holds it, whole.
#[inline(always)]
pub(crate) fn arrived(arena: &Arena, trailer: usize, number: u64) -> Option<Header> {
    let flag = arena.load(trailer + FLAG_IN_TRAILER);
    if !Header::announces(flag, number) {
        return None;
    }
    let header = arena.read_header(trailer);
    header.is_whole(flag).then_some(header)
}

impl Fabric for Mesh {
    #[inline]
    fn rank(&self) -> usize {
        self.rank
    }

    #[inline]
    fn world(&self) -> usize {
        self.layout.world
    }

    #[inline]
    fn slot_bytes(&self) -> usize {
        self.layout.slot_bytes
    }

    #[inline]
    fn slots(&self) -> usize {
        self.layout.slots
    }

    #[inline(always)]
    fn can_send(&mut self, peer: usize) -> bool {
        let to = self.peers[peer].as_mut().expect("a rank has no link to itself");
        if !to.window.has_room() {
            to.window.learn(self.arena.load(self.layout.credit(self.rank, peer)));
            // Credit also lies in messages that have arrived and wait: an operation in place must send before it may
            // consume them.
            for number in to.window.waiting() {
                let trailer = self.layout.slot(self.rank, peer, number) + self.layout.slot_bytes;
                let Some(header) = arrived(&self.arena, trailer, number) else { break };
                to.window.learn(header.consumed);
            }
        }
        to.window.has_room() && to.link.ready()
    }

    #[inline]
    fn send(&mut self, peer: usize, tag: Tag, payload: &[u8]) -> Result<(), FabricError> {
        assert!(payload.len() <= self.layout.slot_bytes, "a message is at most one slot");
        let to = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let (number, consumed) = to.window.send();
        let written = to.link.write(&self.arena, &Outgoing { number, tag, consumed, payload });
        add(&to.bytes.sent, payload.len() as u64);
        written.or_else(|cause| self.broken(peer, cause))
    }

    #[inline]
    fn pass(
        &mut self,
        peer: usize,
        tag: Tag,
        payload: &[u8],
        place: Option<usize>,
    ) -> Result<(), FabricError> {
        if payload.len() < IN_PLACE_BYTES {
            return self.send(peer, tag, payload);
        }
        assert!(payload.len() <= self.layout.slot_bytes, "a message is at most one slot");
        let source = self.registered(payload.as_ptr() as usize, payload.len());
        let to = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let (number, consumed) = to.window.send();
        let message = Outgoing { number, tag, consumed, payload };
        let passed = to.link.pass(&self.arena, &message, source, place);
        add(&to.bytes.sent, payload.len() as u64);
        match passed {
            Ok(true) => add(&to.bytes.sent_in_place, payload.len() as u64),
            Ok(false) => {}
            Err(cause) => return self.broken(peer, cause),
        }
        Ok(())
    }

    #[inline]
    fn refer(
        &mut self,
        peer: usize,
        tag: Tag,
        payload: &[u8],
        place: Option<usize>,
    ) -> Result<(), FabricError> {
        if payload.len() < REFERRED_BYTES || self.shared.is_empty() {
            return self.pass(peer, tag, payload, place);
        }
        assert!(payload.len() <= self.layout.slot_bytes, "a message is at most one slot");
        let found = self.shared.find(payload.as_ptr() as usize, payload.len());
        let to = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let (AnyLink::Shm(link), Some((number_of_buffer, offset))) = (&mut to.link, found) else {
            return self.pass(peer, tag, payload, place);
        };
        let (number, consumed) = to.window.send();
        link.refer(&Outgoing { number, tag, consumed, payload }, *number_of_buffer, offset as u64);
        add(&to.bytes.sent, payload.len() as u64);
        add(&to.bytes.sent_in_place, payload.len() as u64);
        Ok(())
    }

    #[inline]
    fn unread(&self, peer: usize) -> u32 {
        let to = self.peer(peer);
        if let AnyLink::Shm(link) = &to.link {
            if link.last_referred() == 0 {
                return 0;
            }
            let told = self.arena.load(self.layout.credit(self.rank, peer));
            let consumed = to.window.acknowledged(told);
            return if link.last_referred() > consumed { (to.window.sent() - consumed) as u32 } else { 0 };
        }
        to.link.oldest_unread().map_or(0, |oldest| (to.window.sent() + 1 - oldest) as u32)
    }

    fn lend(&mut self, peer: usize, tag: Tag, output: &mut [u8]) -> Result<(), FabricError> {
        let address = output.as_mut_ptr() as usize;
        let Some(source) = self.registered(address, output.len()) else { return Ok(()) };
        let from = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let (number, bytes) = (from.window.next(), output.len() as u64);
        let lend = Lend { tag, number, address: address as u64, bytes, keys: [0; MAX_RAILS] };
        let told = from.link.lend(&self.arena, &lend, &source);
        told.or_else(|cause| self.broken(peer, cause))
    }

    fn take_back(&mut self, peer: usize) {
        self.peers[peer].as_mut().expect("a rank has no link to itself").link.take_back();
    }

    #[inline]
    fn head(&self, peer: usize) -> Result<Option<Message<'_>>, FabricError> {
        let from = self.peer(peer);
        let number = from.window.next();
        let slot = self.layout.slot(self.rank, peer, number);
        let trailer = slot + self.layout.slot_bytes;
        let Some(header) = arrived(&self.arena, trailer, number) else { return Ok(None) };
        let tag = Tag { operation: header.operation, size: header.size };
        let placed = header.is_placed().then_some(header.bytes() as usize);
        if placed.is_some() && !from.link.has_lent() {
            let cause = "its payload was placed, but nothing was lent".to_owned();
            return Err(FabricError::MalformedMessage { peer, host: from.info.host.clone(), cause });
        }
        let payload = match (header.referred(), &from.link) {
            (None, _) => payload(&self.arena, slot, self.layout.slot_bytes, &header),
            (Some((buffer, offset)), AnyLink::Shm(link)) => {
                link.referred(buffer, offset, header.bytes() as usize)
            }
            (Some(_), _) => Err("its payload is in a shared buffer of another host".to_owned()),
        };
        match payload {
            Ok(payload) => Ok(Some(Message { tag, payload, placed })),
            Err(cause) => Err(FabricError::MalformedMessage { peer, host: from.info.host.clone(), cause }),
        }
    }

    #[inline(always)]
    fn release(&mut self, peer: usize) -> Result<(), FabricError> {
        let from = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let trailer = self.layout.slot(self.rank, peer, from.window.next()) + self.layout.slot_bytes;
        let header = self.arena.read_header(trailer);
        add(&from.bytes.received, header.bytes());
        if header.is_placed() {
            add(&from.bytes.received_in_place, header.bytes());
        }
        from.window.learn(header.consumed);
        let credit = match header.referred() {
            // The sender waits for its buffer.
            Some(_) => Some(from.window.release_and_tell()),
            None => from.window.release(),
        };
        let Some(credit) = credit else { return Ok(()) };
        let written = from.link.write_credit(&self.arena, credit);
        written.or_else(|cause| self.broken(peer, cause))
    }

    #[inline(always)]
    fn progress(&mut self) -> Result<(), FabricError> {
        self.control.check()?;
        for rank in 0..self.peers.len() {
            let Some(peer) = &mut self.peers[rank] else { continue };
            if let Err(cause) = peer.link.progress(&self.arena, peer.window.consumed()) {
                self.broken(rank, cause)?;
            }
        }
        Ok(())
    }

    fn expect(&self, peer: usize) -> Result<(), FabricError> {
        match self.control.left_for(peer) {
            Some(ago) if ago > LEAVING_GRACE => {
                Err(FabricError::PeerLeft { peer, host: self.peer(peer).info.host.clone() })
            }
            _ => Ok(()),
        }
    }
}
