//! The real [`Fabric`]: one arena, one link to every peer, one control connection beside each.

mod memory;
mod messages;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;
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
use crate::interrupt::Interrupt;
use crate::key::Key;
use crate::layout::Layout;
use crate::link::{Alarm, AnyLink, Link, LinkFailure, Transport};
use crate::rdma::RdmaEndpoint;
use crate::registration::Registry;
use crate::shared::Shared;
use crate::window::Window;
pub(crate) use messages::arrived;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use messages::read_trailer;

/// How long a rank that is dropped, not closed, waits for its last bytes to reach the peers.
const FLUSH_GRACE: Duration = Duration::from_secs(1);
/// How long a broken link waits for the control connection to say that it is the whole peer that is gone.
const EXPLANATION_GRACE: Duration = Duration::from_millis(300);

/// The longest sleep where no peer wakes a rank, or peers would in different ways: it then takes about half a percent of a
/// core. To be rung by a peer on another host costs more than to look again after so short a time.
const NAP: Duration = Duration::from_millis(1);

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
    /// Each rail, where there are several.
    pub rails: Vec<Arc<RailBytes>>,
}

/// One of several rails of a link.
#[derive(Debug, Default)]
pub struct RailBytes {
    /// This rank's port, such as `irdma0:1`.
    pub name: String,
    /// Payload bytes towards the peer, counted when they are posted: those written again as often as that.
    pub sent: AtomicU64,
    /// Why it is left out, if it was lost.
    pub lost: OnceLock<String>,
}

/// One peer of this rank.
#[derive(Debug)]
pub(crate) struct Peer {
    info: LinkInfo,
    link: AnyLink,
    bytes: Arc<LinkBytes>,
    window: Window,
    /// The last of its messages that was there when this rank wanted to sleep.
    seen: u64,
}

impl Peer {
    pub(crate) fn new(info: LinkInfo, link: AnyLink, slots: usize) -> Self {
        let rails = match &link {
            AnyLink::Rdma(link) => link.rail_bytes(),
            AnyLink::Shm(_) | AnyLink::Tcp(_) => Vec::new(),
        };
        let bytes = Arc::new(LinkBytes { rails, ..LinkBytes::default() });
        Self { info, link, bytes, window: Window::new(slots), seen: 0 }
    }
}

/// Only this rank's thread counts, so a plain store loses nothing and locks no bus.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Where a rank is, for its peers.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    /// What carries payloads between all ranks, in a word.
    pub(crate) carrier: &'static str,
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
    carrier: &'static str,
    layout: Layout,
    // Links borrow nothing from the arena but write into it; they are dropped first, with the NIC's registration.
    peers: Vec<Option<Peer>>,
    arena: Arc<Arena>,
    pages: String,
    control: Control,
    endpoint: Option<RdmaEndpoint>,
    registry: Registry,
    /// Buffers shared so far, on all ranks alike, and those of them that this rank still has.
    shares: u64,
    shared: Shared,
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
        let Place { address, carrier, layout, arena, pages, endpoint } = place;
        let (registry, shares, shared) = (Registry::new(), 0, Shared::new());
        Self {
            rank,
            address,
            carrier,
            layout,
            peers,
            arena,
            pages,
            control,
            endpoint,
            registry,
            shares,
            shared,
        }
    }

    /// The links, in rank order, without this rank's own place.
    pub fn links(&self) -> impl Iterator<Item = (&LinkInfo, &Arc<LinkBytes>)> {
        self.peers.iter().flatten().map(|peer| (&peer.info, &peer.bytes))
    }

    /// What carries payloads between the ranks, the same on all of them: `shm`, `rdma` or `tcp`, `mixed` where it is not the
    /// same between all, or `local` for a single rank.
    pub fn carrier(&self) -> &'static str {
        self.carrier
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

    /// Tells every peer what this rank has been waiting in for long, or that it goes on.
    pub fn say_waits(&self, within: Option<String>) {
        self.control.say_waits(within);
    }

    /// What a peer has said that it has been waiting in for long.
    pub fn waits_in(&self, peer: usize) -> Option<String> {
        self.control.waits_in(peer)
    }

    /// Waits until the last bytes have reached the peers' hosts, for at most `patience` or until it is interrupted, says
    /// good-bye, and waits a moment for the others to do so.
    ///
    /// # Errors
    /// The communicator had failed before, bytes did not arrive in time, or a peer stopped it at the last moment.
    pub fn close(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<(), FabricError> {
        let delivered = self.control.check().and_then(|()| self.deliver(patience, interrupt));
        let result = delivered.and(self.control.close());
        // What came before a peer's good-bye is taken in, so that the caller can see what nobody has received.
        for peer in self.peers.iter_mut().flatten() {
            let _ = peer.link.progress(&self.arena, peer.window.consumed());
        }
        result
    }

    /// A peer that has left reads nothing any more, and misses nothing that it wants.
    fn deliver(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<(), FabricError> {
        let start = Instant::now();
        loop {
            let waits =
                |peer: &&Peer| !peer.link.delivered() && self.control.left_for(peer.info.peer).is_none();
            let mut late = self.peers.iter().flatten().filter(waits).peekable();
            if late.peek().is_none() {
                return Ok(());
            }
            let after = start.elapsed();
            if after > patience || interrupt.wanted() {
                let names = late.map(|peer| format!("{} ({})", peer.info.peer, peer.info.host));
                let peers = names.collect::<Vec<_>>().join(", ");
                return Err(FabricError::Undelivered { peers, after });
            }
            self.progress()?;
            if after > NAP {
                std::thread::sleep(NAP);
            }
        }
    }

    /// Sleeps until one of `peers` does something, for about `at_most`: for a rank that has waited long. What a peer did at
    /// the moment when it fell asleep may not wake it. Whether a bell was rung, which may be before what it was rung for has
    /// arrived.
    pub fn sleep(&mut self, peers: &[usize], at_most: Duration) -> bool {
        let rings = |peer: &&usize| matches!(self.peer(**peer).link.alarm(), Alarm::Bell);
        let bells = peers.iter().filter(rings).count();
        if peers.is_empty() {
            std::thread::sleep(at_most.min(NAP));
        } else if bells == peers.len() {
            return self.sleep_by_the_bell(peers, at_most);
        } else if self.have_stirred(peers) {
            // It was read from its socket after the plan had looked: no socket tells of it any more.
        } else if bells == 0 {
            self.sleep_on_sockets(peers, at_most);
        } else {
            // They wake in different ways.
            std::thread::sleep(at_most.min(NAP));
        }
        false
    }

    fn sleep_by_the_bell(&mut self, peers: &[usize], at_most: Duration) -> bool {
        // Of what has still to leave no bell tells when it can, and somebody may wait for it.
        let at_most = if self.backlogs().next().is_some() { at_most.min(NAP) } else { at_most };
        let (arena, bell) = (Arc::clone(&self.arena), self.layout.bell());
        doorbell::sleep(&arena, bell, at_most, || {
            if at_most > NAP {
                for peer in peers {
                    self.peer(*peer).link.ask_to_be_rung();
                }
            }
            self.have_stirred(peers)
        })
    }

    fn sleep_on_sockets(&self, peers: &[usize], at_most: Duration) {
        // What has still to leave must not sleep with us: somebody may wait for it.
        let watched = peers.iter().map(|peer| self.peer(*peer)).chain(self.backlogs());
        let mut sockets: SmallVec<[_; 16]> = watched
            .flat_map(|peer| match peer.link.alarm() {
                Alarm::Sockets(sockets) => sockets,
                Alarm::Bell => SmallVec::new(),
            })
            .collect();
        doorbell::sleep_on_sockets(&mut sockets, at_most);
    }

    /// The peers for whom something waits to leave.
    fn backlogs(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten().filter(|peer| !peer.link.flushed())
    }

    /// Whether there is anything of these peers' that was not there when a sleep last asked. What is there and was not enough
    /// keeps nobody awake.
    fn have_stirred(&mut self, peers: &[usize]) -> bool {
        peers.iter().any(|rank| {
            let peer = self.peers[*rank].as_mut().expect("a rank has no link to itself");
            let number = peer.window.next();
            let trailer = self.layout.slot(self.rank, *rank, number) + self.layout.slot_bytes;
            let has_come = peer.seen < number && arrived(&self.arena, trailer, number).is_some();
            if has_come {
                peer.seen = number;
            }
            let credit = self.arena.load(self.layout.credit(self.rank, *rank));
            let is_news = peer.window.is_news(credit);
            peer.window.learn(credit);
            has_come || is_news
        })
    }

    #[inline]
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

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.close(FLUSH_GRACE, &Interrupt::default());
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::config::TransportChoice;
    use crate::control::Locks;
    use crate::message::Tag;

    fn pair(transport: TransportChoice) -> [Mesh; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rendezvous = listener.local_addr().unwrap().to_string();
        drop(listener);
        let connect = |rank| {
            let rendezvous = rendezvous.clone();
            let small = Config { rendezvous, transport, slot_bytes: 1024, slots: 4, ..Config::new(rank, 2) };
            Mesh::connect(&small).unwrap()
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| connect(1));
            [connect(0), other.join().unwrap()]
        })
    }

    /// Sends messages, each after the peer's one before it has come: credit goes around many times.
    fn exchange(mesh: &mut Mesh) -> Result<(), FabricError> {
        let peer = 1 - mesh.rank();
        for number in 0..200u64 {
            while !mesh.can_send(peer) {
                mesh.progress()?;
            }
            mesh.send(peer, Tag { operation: number, size: 0 }, &[number as u8; 900])?;
            while mesh.head(peer)?.is_none() {
                mesh.progress()?;
            }
            let message = mesh.head(peer)?.expect("it has come");
            assert_eq!((message.tag.operation, message.payload), (number, &[number as u8; 900][..]));
            mesh.release(peer)?;
        }
        Ok(())
    }

    #[test]
    fn messages_take_no_lock() {
        for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
            let meshes = pair(transport);
            let locks = meshes.each_ref().map(|mesh| Locks::of(&mesh.control));
            let held = locks.each_ref().map(Locks::hold);
            let (done, all_done) = mpsc::channel();
            for mut mesh in meshes {
                let done = done.clone();
                thread::spawn(move || {
                    let result = exchange(&mut mesh);
                    // Closing does take locks: here it comes after they are let go.
                    let _ = done.send((result, mesh));
                });
            }
            let ended = [(); 2].map(|()| all_done.recv_timeout(Duration::from_secs(60)));
            drop(held);
            for result in ended {
                result.unwrap_or_else(|_| panic!("{transport}: a message waits for a lock")).0.unwrap();
            }
        }
    }
}
