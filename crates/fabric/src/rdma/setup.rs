//! From a data address to a connected queue pair.

use std::any::Any;
use std::net::IpAddr;
use std::ptr::NonNull;
use std::sync::Arc;

use halo_verbs::{Choice, CompletionQueue, ProtectionDomain, QueuePair, QueuePairAddress, QueuePairLimits};
use serde::{Deserialize, Serialize};

use super::link::{RdmaLink, RemoteArena};
use super::regions::{Parts, Regions};
use crate::arena::Arena;
use crate::config::Config;
use crate::error::FabricError;
use crate::key::nonce;
use crate::layout::{LINE, Layout};
use crate::link::LinkFailure;

/// The NIC port that this rank uses, chosen before ranks meet.
#[derive(Debug)]
pub(crate) struct RdmaPort {
    choice: Choice,
}

impl RdmaPort {
    /// Finds the port whose RoCE v2 GID matches the data address, on the configured device if one is configured.
    /// Why there is none is kept as text: it matters only where rdma is asked for.
    pub(crate) fn open(config: &Config, address: IpAddr) -> Result<Self, String> {
        let choice = halo_verbs::choose(address, config.rdma_device.as_deref());
        choice.map(|choice| Self { choice }).map_err(|error| error.to_string())
    }

    /// Device, port and GID, for messages.
    pub(crate) fn describe(&self) -> String {
        self.choice.to_string()
    }

    /// The device's name.
    pub(crate) fn device(&self) -> &str {
        self.choice.context.name()
    }

    /// Registers the arena with the NIC.
    pub(crate) fn register(self, arena: Arc<Arena>, layout: Layout) -> Result<RdmaEndpoint, FabricError> {
        let domain = ProtectionDomain::new(Arc::clone(&self.choice.context))?;
        let (base, bytes) = (arena.base(), arena.len());
        let owner: Arc<dyn Any + Send + Sync> = arena;
        // SAFETY: the arena owns the mapping and is kept as the owner; peers' writes are what it is made for, see
        // `arena`.
        let regions = unsafe { Regions::register(&domain, base, bytes, &owner, |at| layout.cut(at))? };
        Ok(RdmaEndpoint { domain, regions: Arc::new(regions), choice: self.choice })
    }
}

/// The port with the arena registered.
#[derive(Debug)]
pub(crate) struct RdmaEndpoint {
    domain: Arc<ProtectionDomain>,
    regions: Arc<Regions>,
    choice: Choice,
}

impl RdmaEndpoint {
    /// The device's name.
    pub(crate) fn device(&self) -> &str {
        self.choice.context.name()
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
    ) -> Result<Regions, FabricError> {
        let owner: Arc<dyn Any + Send + Sync> = Arc::new(());
        let page = rustix::param::page_size();
        let first = start.as_ptr() as usize;
        let cut = |at: usize| (first + at) / page * page - first;
        // SAFETY: this function's own contract.
        Ok(unsafe { Regions::register(&self.domain, start, bytes, &owner, cut)? })
    }

    /// A queue pair for one peer, not connected yet.
    pub(crate) fn prepare(
        &self,
        rank: usize,
        peer: usize,
        layout: Layout,
    ) -> Result<RdmaPending, FabricError> {
        let depth = RdmaLink::queue_depth(layout);
        let completions = CompletionQueue::new(Arc::clone(self.domain.context()), depth)?;
        let limits = QueuePairLimits { sends: depth, receives: 1, inline_bytes: LINE as u32 };
        // An unpredictable first packet number keeps packets of an earlier connection out of this one.
        let random = nonce()?;
        let first_packet = u32::from_le_bytes([random[0], random[1], random[2], 0]);
        let pair =
            QueuePair::new(Arc::clone(&self.domain), completions, self.choice.clone(), limits, first_packet)?;
        Ok(RdmaPending { pair, regions: Arc::clone(&self.regions), rank, peer, layout })
    }
}

/// A queue pair that knows itself and not yet its peer.
#[derive(Debug)]
pub(crate) struct RdmaPending {
    pair: QueuePair,
    regions: Arc<Regions>,
    rank: usize,
    peer: usize,
    layout: Layout,
}

impl RdmaPending {
    /// What the peer must know.
    pub(crate) fn offer(&self) -> RdmaOffer {
        let QueuePairAddress { number, first_packet, gid, mtu } = self.pair.address();
        let (address, keys) = RemoteArena::of(&self.regions);
        RdmaOffer { number, first_packet, gid, mtu, arena: address, keys }
    }

    /// Connects to the peer's queue pair.
    pub(crate) fn connect(self, theirs: &RdmaOffer) -> Result<RdmaLink, LinkFailure> {
        let RdmaOffer { number, first_packet, gid, mtu, arena, .. } = *theirs;
        let address = QueuePairAddress { number, first_packet, gid, mtu };
        self.pair.connect(&address).map_err(|error| error.to_string())?;
        let keys = Parts::from_list(theirs.keys.clone(), self.layout.arena_bytes());
        let remote = RemoteArena { address: arena, keys };
        Ok(RdmaLink::new(self.rank, self.peer, self.layout, self.pair, self.regions, remote))
    }
}

/// What a peer must know to write here, told over its control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RdmaOffer {
    number: u32,
    first_packet: u32,
    gid: [u8; 16],
    mtu: u32,
    /// Where the arena begins, as the NIC addresses it.
    arena: u64,
    /// The keys of its parts, each with where that part begins: mostly one.
    keys: Vec<(u64, u32)>,
}
