//! The real [`Fabric`]: one arena, one link to every peer, one control connection beside each.

use std::net::IpAddr;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::arena::Arena;
use crate::bootstrap::{self, Rendezvous, Store};
use crate::config::Config;
use crate::control::Control;
use crate::doorbell;
use crate::error::FabricError;
use crate::fabric::Fabric;
use crate::key::Key;
use crate::layout::{FLAG_IN_TRAILER, Layout};
use crate::link::{Alarm, AnyLink, Link, LinkFailure, Source, Transport};
use crate::message::{Header, Lend, Message, Outgoing, SHORT_BYTES, SHORT_IN_TRAILER, Tag};
use crate::rdma::RdmaEndpoint;
use crate::registration::{Registration, Registry};
use crate::window::Window;

/// How long a closing rank waits for its last bytes to leave.
const FLUSH_GRACE: Duration = Duration::from_secs(1);
/// How long after a peer's good-bye its last messages may still be under way.
const LEAVING_GRACE: Duration = Duration::from_millis(500);
/// How long a broken link waits for the control connection to say that it is the whole peer that is gone.
const EXPLANATION_GRACE: Duration = Duration::from_millis(300);

/// One sleep where nothing can wake a rank: an idle one then takes about half a percent of a core.
const NAP: Duration = Duration::from_millis(1);

/// Payloads from this size on are read where they lie, and only outputs from this size on are lent. The processor copies
/// 32 KiB in about the time that the acknowledgement takes for which whoever does not copy must wait.
const IN_PLACE_BYTES: usize = 32 * 1024;

/// What is known of the link to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The peer's rank.
    pub peer: usize,
    /// Its host.
    pub host: String,
    /// What carries payloads to and from it.
    pub transport: Transport,
    /// Why this transport.
    pub reason: String,
}

/// Payload bytes of one link, counted as they pass.
#[derive(Debug, Default)]
pub struct LinkBytes {
    /// Towards the peer.
    pub sent: AtomicU64,
    /// From the peer.
    pub received: AtomicU64,
    /// Of those sent, the ones that were not copied: they were read where they lay, in registered memory.
    pub sent_in_place: AtomicU64,
    /// Of those received, the ones that the peer wrote straight to a registered output.
    pub received_in_place: AtomicU64,
}

/// One peer of this rank.
#[derive(Debug)]
pub(crate) struct Peer {
    info: LinkInfo,
    link: AnyLink,
    bytes: Arc<LinkBytes>,
    window: Window,
}

impl Peer {
    pub(crate) fn new(info: LinkInfo, link: AnyLink, slots: usize) -> Self {
        Self { info, link, bytes: Arc::default(), window: Window::new(slots) }
    }
}

/// Only this rank's thread counts, so a plain store loses nothing and locks no bus.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Where a rank is, for its peers.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    pub(crate) layout: Layout,
    pub(crate) arena: Arc<Arena>,
    /// What the arena's pages are, in words.
    pub(crate) pages: String,
    /// The NIC, where a link uses it.
    pub(crate) endpoint: Option<RdmaEndpoint>,
}

/// All links of one rank.
#[derive(Debug)]
pub struct Mesh {
    rank: usize,
    address: IpAddr,
    layout: Layout,
    // Links borrow nothing from the arena but write into it; they are dropped first, with the NIC's registration.
    peers: Vec<Option<Peer>>,
    arena: Arc<Arena>,
    pages: String,
    control: Control,
    endpoint: Option<RdmaEndpoint>,
    registry: Registry,
}

impl Mesh {
    /// Meets the other ranks at `config.rendezvous`, served by rank 0.
    ///
    /// # Errors
    /// Any [`FabricError`] of configuration or bootstrap, within `config.timeout`.
    pub fn connect(config: &Config) -> Result<Self, FabricError> {
        bootstrap::over_rendezvous(config)
    }

    /// Meets the other ranks through a store that the caller serves.
    ///
    /// # Errors
    /// As [`Mesh::connect`].
    pub fn connect_with_store(config: &Config, store: &dyn Store) -> Result<Self, FabricError> {
        bootstrap::over_store(config, store)
    }

    /// Meets the other ranks at a rendezvous that rank 0 has opened before and brings along; its address is everybody's
    /// `config.rendezvous`.
    ///
    /// # Errors
    /// As [`Mesh::connect`].
    pub fn connect_at(config: &Config, key: &Key, opened: Option<Rendezvous>) -> Result<Self, FabricError> {
        bootstrap::over_served(config, key, opened)
    }

    pub(crate) fn assemble(rank: usize, place: Place, peers: Vec<Option<Peer>>, control: Control) -> Self {
        let Place { address, layout, arena, pages, endpoint } = place;
        Self { rank, address, layout, peers, arena, pages, control, endpoint, registry: Registry::new() }
    }

    /// Registers `bytes` bytes from `start`, so that long payloads are read where they lie and peers write theirs
    /// straight to outputs that lie there. To register the same memory again, or part of it, costs a look-up. Where no
    /// link goes over rdma nothing needs to be done, and nothing is.
    ///
    /// # Errors
    /// No memory at all, the memlock limit, or the NIC refuses.
    ///
    /// # Safety
    /// The memory stays mapped and in its place until the registration is dropped. Whatever an operation is given of it
    /// is left alone until that operation has ended; after a failed operation its contents are undefined.
    pub unsafe fn register(&mut self, start: *mut u8, bytes: usize) -> Result<Registration, FabricError> {
        let address = start as usize;
        let Some(start) = NonNull::new(start).filter(|_| bytes > 0 && address.checked_add(bytes).is_some())
        else {
            return Err(FabricError::NothingToRegister { address, bytes });
        };
        let Some(endpoint) = &self.endpoint else { return Ok(Registration::new(address, bytes, None)) };
        let (regions, offset) = match self.registry.find(address, bytes) {
            Some(known) => known,
            // SAFETY: this function's own contract.
            None => (Arc::new(unsafe { endpoint.register_memory(start, bytes)? }), 0),
        };
        let held = self.registry.add(address, bytes, regions, offset);
        Ok(Registration::new(address, bytes, Some(held)))
    }

    /// Registered memory that holds all of these bytes, if it is worth being used.
    #[inline]
    fn registered(&self, address: usize, bytes: usize) -> Option<Source> {
        if bytes < IN_PLACE_BYTES || self.registry.is_empty() {
            return None;
        }
        self.registry.find(address, bytes).map(|(memory, offset)| Source { memory, offset })
    }

    /// The links, in rank order, without this rank's own place.
    pub fn links(&self) -> impl Iterator<Item = (&LinkInfo, &Arc<LinkBytes>)> {
        self.peers.iter().flatten().map(|peer| (&peer.info, &peer.bytes))
    }

    /// The address that this rank gave its peers.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bytes of this rank's arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    /// What the arena's pages are, and why they are no better ones, in words.
    pub fn arena_pages(&self) -> &str {
        &self.pages
    }

    /// Tells every peer why nobody should wait any more; nothing is sent from here after that, and no memory of the
    /// caller's is read or written.
    pub fn stop_everybody(&mut self, reason: String) {
        if !self.registry.is_empty() {
            self.peers.iter_mut().flatten().for_each(|peer| peer.link.halt());
        }
        self.control.stop_everybody(FabricError::Closed, reason);
    }

    /// Lets the last bytes leave, says good-bye, and waits a moment for the others to do so.
    ///
    /// # Errors
    /// The communicator had failed before, or bytes could not leave in time.
    pub fn close(&mut self) -> Result<(), FabricError> {
        let deadline = Instant::now() + FLUSH_GRACE;
        let mut result = self.control.check();
        while result.is_ok() && !self.peers.iter().flatten().all(|peer| peer.link.flushed()) {
            result = self.progress();
            if Instant::now() > deadline {
                break;
            }
        }
        self.control.close();
        result
    }

    /// Sleeps until one of `peers` does something, for about `at_most`: for a rank that has waited long.
    pub fn sleep(&self, peers: &[usize], at_most: Duration) {
        let (mut sockets, mut bells) = (SmallVec::<[_; 16]>::new(), 0);
        for peer in peers {
            match self.peer(*peer).link.alarm() {
                Alarm::Bell => bells += 1,
                Alarm::Socket(socket) => sockets.push(socket),
                Alarm::None => {}
            }
        }
        if peers.is_empty() {
            std::thread::sleep(NAP);
        } else if bells == peers.len() {
            let stirred = || peers.iter().any(|peer| self.has_stirred(*peer));
            doorbell::sleep(&self.arena, self.layout.bell(), at_most, stirred);
        } else if sockets.len() == peers.len() {
            // What waits to leave must not sleep with us: somebody may wait for it.
            let backlogs = self.peers.iter().flatten().filter(|peer| !peer.link.flushed());
            sockets.extend(backlogs.filter_map(|peer| match peer.link.alarm() {
                Alarm::Socket(socket) => Some(socket),
                Alarm::Bell | Alarm::None => None,
            }));
            doorbell::sleep_on_sockets(&mut sockets, at_most);
        } else {
            // They wake in different ways, or in none.
            std::thread::sleep(at_most.min(NAP));
        }
    }

    /// Whether there is anything of this peer's that was not there when it was last looked at.
    fn has_stirred(&self, rank: usize) -> bool {
        let peer = self.peer(rank);
        let number = peer.window.next();
        let trailer = self.layout.slot(self.rank, rank, number) + self.layout.slot_bytes;
        arrived(&self.arena, trailer, number).is_some()
            || peer.window.is_news(self.arena.load(self.layout.credit(self.rank, rank)))
    }

    fn peer(&self, rank: usize) -> &Peer {
        self.peers[rank].as_ref().expect("a rank has no link to itself")
    }

    /// Turns a link's failure into the best-known cause: a lost peer, if the control connection says so at once.
    fn broken(&self, rank: usize, cause: LinkFailure) -> Result<(), FabricError> {
        let deadline = Instant::now() + EXPLANATION_GRACE;
        while Instant::now() < deadline {
            self.control.check()?;
            if self.control.left_for(rank).is_some() {
                // It took its end of the link along; whoever still waits for it is told by `expect`.
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let info = &self.peer(rank).info;
        let error = FabricError::LinkBroken {
            transport: info.transport.name(),
            peer: rank,
            host: info.host.clone(),
            cause,
        };
        self.control.stop_everybody(error.clone(), error.one_line());
        Err(error)
    }
}

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
#[inline]
pub(crate) fn arrived(arena: &Arena, trailer: usize, number: u64) -> Option<Header> {
    let flag = arena.load(trailer + FLAG_IN_TRAILER);
    if !Header::announces(flag, number) {
        return None;
    }
    let header = arena.read_header(trailer);
    header.is_whole(flag).then_some(header)
}

impl Fabric for Mesh {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.layout.world
    }

    fn slot_bytes(&self) -> usize {
        self.layout.slot_bytes
    }

    #[inline]
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
    fn unread(&self, peer: usize) -> u32 {
        let to = self.peer(peer);
        to.link.oldest_unread().map_or(0, |oldest| (to.window.sent() + 1 - oldest) as u32)
    }

    fn lend(&mut self, peer: usize, tag: Tag, output: &mut [u8]) -> Result<(), FabricError> {
        let address = output.as_mut_ptr() as usize;
        let Some(source) = self.registered(address, output.len()) else { return Ok(()) };
        let from = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let (number, bytes) = (from.window.next(), output.len() as u64);
        let lend = Lend { tag, number, address: address as u64, bytes, key: 0 };
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
        match payload(&self.arena, slot, self.layout.slot_bytes, &header) {
            Ok(payload) => Ok(Some(Message { tag, payload, placed })),
            Err(cause) => Err(FabricError::MalformedMessage { peer, host: from.info.host.clone(), cause }),
        }
    }

    #[inline]
    fn release(&mut self, peer: usize) -> Result<(), FabricError> {
        let from = self.peers[peer].as_mut().expect("a rank has no link to itself");
        let trailer = self.layout.slot(self.rank, peer, from.window.next()) + self.layout.slot_bytes;
        let header = self.arena.read_header(trailer);
        add(&from.bytes.received, header.bytes());
        if header.is_placed() {
            add(&from.bytes.received_in_place, header.bytes());
        }
        from.window.learn(header.consumed);
        let Some(credit) = from.window.release() else { return Ok(()) };
        let written = from.link.write_credit(&self.arena, credit);
        written.or_else(|cause| self.broken(peer, cause))
    }

    #[inline]
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

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.close();
    }
}
