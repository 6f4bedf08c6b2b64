//! From NIC ports to connected queue pairs.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use halo_verbs::{CompletionQueue, ProtectionDomain, QueuePair, QueuePairAddress, QueuePairLimits};
use serde::{Deserialize, Serialize};

use super::depth::{self, queue_depth};
use super::link::RdmaLink;
use super::memory::Memory;
use super::port_watch::{PortWatch, PortsDown};
use super::ports::{Port, RdmaPorts};
use super::rail::{Rail, RemoteArena};
use super::regions::Parts;
use super::several::Several;
use crate::arena::Arena;
use crate::config::LostRail;
use crate::control::{RailTalk, RemoteBell};
use crate::error::FabricError;
use crate::key::nonce;
use crate::layout::{LINE, Layout};
use crate::link::LinkFailure;

impl RdmaPorts {
    /// Registers the arena with those of the ports that links use, by their places in `all`.
    pub(crate) fn register(
        self,
        arena: Arc<Arena>,
        layout: Layout,
        used: &[usize],
    ) -> Result<RdmaEndpoint, FabricError> {
        let ports: Vec<(usize, Port)> = used.iter().map(|place| (*place, self.all[*place].clone())).collect();
        ports.iter().try_for_each(|(_, port)| depth::check(&port.choice.context, layout))?;
        let domain = |(_, port): &(usize, Port)| ProtectionDomain::new(Arc::clone(&port.choice.context));
        let domains = ports.iter().map(domain).collect::<Result<Vec<_>, _>>()?;
        let (base, bytes) = (arena.base(), arena.len());
        let owner: Arc<dyn Any + Send + Sync> = arena;
        // SAFETY: the arena owns the mapping and is kept as the owner; peers' writes are what it is made for, see
        // `arena`.
        let memory = unsafe { Memory::register(&domains, base, bytes, &owner, |at| layout.cut(at))? };
        let down = PortsDown::new(ports.len());
        Ok(RdmaEndpoint { domains, memory: Arc::new(memory), ports, down })
    }
}

/// The ports with the arena registered.
#[derive(Debug)]
pub(crate) struct RdmaEndpoint {
    domains: Vec<Arc<ProtectionDomain>>,
    memory: Arc<Memory>,
    /// Each with its place among the candidates.
    ports: Vec<(usize, Port)>,
    down: PortsDown,
}

/// Which peer, and how a link to it behaves.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) rank: usize,
    pub(crate) peer: usize,
    pub(crate) host: String,
    pub(crate) layout: Layout,
    pub(crate) on_loss: LostRail,
    /// Where it speaks of rails, if it has several.
    pub(crate) talk: Option<Arc<RailTalk>>,
    /// Where it rings, and asks to be rung.
    pub(crate) bell: Arc<RemoteBell>,
}

impl RdmaEndpoint {
    /// The name of the first device.
    pub(crate) fn device(&self) -> &str {
        self.ports[0].1.choice.context.name()
    }

    /// What listens to the devices, where there is more than one port.
    pub(crate) fn port_watch(&self) -> Option<PortWatch> {
        let ports = self.ports.iter().map(|(_, port)| &port.choice);
        let ports = ports.map(|choice| (Arc::clone(&choice.context), choice.port.number)).collect();
        (self.ports.len() > 1).then(|| PortWatch::new(ports, self.down.clone()))
    }

    /// Registers memory of the caller's.
    ///
    /// # Safety
    /// The memory stays mapped and in its place until the registration is gone, and nobody reads or writes what an
    /// operation has been given until that operation has ended.
    pub(crate) unsafe fn register_memory(
        &self,
        start: NonNull<u8>,
        bytes: usize,
    ) -> Result<Memory, FabricError> {
        let owner: Arc<dyn Any + Send + Sync> = Arc::new(());
        let page = rustix::param::page_size();
        let first = start.as_ptr() as usize;
        let cut = |at: usize| (first + at) / page * page - first;
        // SAFETY: this function's own contract.
        Ok(unsafe { Memory::register(&self.domains, start, bytes, &owner, cut)? })
    }

    /// Queue pairs for one peer, not connected yet: one for each of the candidates that are its rails.
    pub(crate) fn prepare(&self, way: Way, rails: &[usize]) -> Result<RdmaPending, FabricError> {
        let mut pairs = Vec::new();
        for place in rails {
            let port = self.ports.iter().position(|(known, _)| known == place);
            let port = port.expect("the arena is registered with every port that a link uses");
            pairs.push((port, self.pair(port, way.layout)?));
        }
        let names = pairs.iter().map(|(port, _)| self.ports[*port].1.name()).collect();
        Ok(RdmaPending { pairs, names, memory: Arc::clone(&self.memory), down: self.down.clone(), way })
    }

    fn pair(&self, port: usize, layout: Layout) -> Result<QueuePair, FabricError> {
        let depth = queue_depth(layout);
        let domain = &self.domains[port];
        let choice = self.ports[port].1.choice.clone();
        let limits = QueuePairLimits { sends: depth, receives: 1, inline_bytes: LINE as u32 };
        // An unpredictable first packet number keeps packets of an earlier connection out of this one.
        let random = nonce()?;
        let first_packet = u32::from_le_bytes([random[0], random[1], random[2], 0]);
        CompletionQueue::new(Arc::clone(domain.context()), depth)
            .and_then(|completions| {
                QueuePair::new(Arc::clone(domain), completions, choice, limits, first_packet)
            })
            .map_err(|error| depth::refused(domain.context().name(), layout, error))
    }
}

/// Queue pairs that know themselves and not yet their peers.
#[derive(Debug)]
pub(crate) struct RdmaPending {
    /// Each with its port.
    pairs: Vec<(usize, QueuePair)>,
    names: Vec<String>,
    memory: Arc<Memory>,
    down: PortsDown,
    way: Way,
}

impl RdmaPending {
    /// What the peer must know.
    pub(crate) fn offer(&self) -> RdmaOffer {
        let rails = self.pairs.iter().map(|(port, pair)| {
            let QueuePairAddress { number, first_packet, gid, mtu } = pair.address();
            let (arena, keys) = RemoteArena::of(self.memory.at_port(*port));
            RailOffer { number, first_packet, gid, mtu, arena, keys }
        });
        RdmaOffer { rails: rails.collect() }
    }

    /// Connects to the peer's queue pairs.
    pub(crate) fn connect(self, theirs: RdmaOffer) -> Result<RdmaLink, LinkFailure> {
        let Self { pairs, names, memory, down, way } = self;
        let Way { rank, peer, host, layout, on_loss, talk, bell } = way;
        if theirs.rails.len() != pairs.len() {
            return Err(format!("it has {} rails, this rank {}", theirs.rails.len(), pairs.len()));
        }
        let mut rails = Vec::new();
        for ((port, pair), offer) in pairs.into_iter().zip(theirs.rails) {
            let RailOffer { number, first_packet, gid, mtu, arena, keys } = offer;
            let address = QueuePairAddress { number, first_packet, gid, mtu };
            pair.connect(&address).map_err(|error| error.to_string())?;
            let remote = RemoteArena { address: arena, keys: Parts::from_list(keys, layout.arena_bytes()) };
            rails.push(Rail::new(pair, port, remote, queue_depth(layout)));
        }
        let several = (rails.len() > 1)
            .then(|| Several::new(names, layout, talk.unwrap_or_default(), down, on_loss, host));
        Ok(RdmaLink::new(rank, peer, layout, rails, memory, several, bell))
    }
}

/// What a peer must know to write here, told over its control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RdmaOffer {
    rails: Vec<RailOffer>,
}

/// The same of one rail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RailOffer {
    number: u32,
    first_packet: u32,
    gid: [u8; 16],
    mtu: u32,
    /// Where the arena begins, as the NIC addresses it.
    arena: u64,
    /// The keys of its parts, each with where that part begins: mostly one.
    keys: Vec<(u64, u32)>,
}
