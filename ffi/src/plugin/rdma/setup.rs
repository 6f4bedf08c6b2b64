//! From two devices to connected queue pairs, without waiting for either side.

use std::sync::Arc;

use halo_fabric::{Arena, nonce};
use halo_verbs::{
    Access, CompletionQueue, MemoryRegion, PathOptions, QueuePair, QueuePairAddress, QueuePairLimits, Remote,
};
use serde::{Deserialize, Serialize};

use super::lane::{DEPTH, Lane};
use super::layout;
use crate::plugin::connection::hello::Terms;
use crate::plugin::device::{Device, RdmaPort};
use crate::plugin::error::PluginError;
use crate::plugin::protocol::MAX_LANES;

/// Which half of a connection this side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// What the peer must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RdmaOffer {
    queue_pairs: Vec<Pair>,
    /// Where this side's memory begins, and the key to write there.
    address: u64,
    key: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    number: u32,
    first_packet: u32,
    gid: [u8; 16],
    mtu: u32,
}

impl RdmaOffer {
    /// Refuses what does not fit the terms.
    pub(crate) fn check(&self, terms: &Terms) -> Result<(), String> {
        let (theirs, agreed) = (self.queue_pairs.len(), usize::from(terms.lanes));
        if theirs == agreed && theirs <= MAX_LANES && self.queue_pairs.iter().all(|pair| pair.mtu <= 4096) {
            return Ok(());
        }
        Err(format!("it offers {theirs} queue pairs where {agreed} are meant"))
    }
}

/// Queue pairs that know themselves and not yet their peers.
#[derive(Debug)]
pub(crate) struct Pending {
    device: &'static Device,
    port: &'static RdmaPort,
    completions: Arc<CompletionQueue>,
    pairs: Vec<QueuePair>,
    arena: Arc<Arena>,
    region: Arc<MemoryRegion>,
    options: PathOptions,
    terms: Terms,
}

/// A connection's queue pairs and memory.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(super) port: &'static RdmaPort,
    pub(super) lanes: Vec<Lane>,
    pub(super) completions: Arc<CompletionQueue>,
    pub(super) arena: Arc<Arena>,
    pub(super) region: Arc<MemoryRegion>,
    remote: Remote,
}

impl Pending {
    pub(crate) fn new(
        device: &'static Device,
        port: &'static RdmaPort,
        role: Role,
        terms: &Terms,
    ) -> Result<Self, PluginError> {
        let refuse = |error: halo_verbs::Error| PluginError::system("setting up queue pairs", error);
        let eager_bytes = terms.eager_bytes as usize;
        let bytes = match role {
            Role::Sender => layout::sender::BYTES,
            Role::Receiver => layout::receiver::bytes(eager_bytes),
        };
        let arena = Arena::allocate(bytes).map_err(|error| PluginError::system("memfd_create", error))?;
        let arena = Arc::new(arena);
        let domain = port.domain()?;
        // SAFETY: the arena owns its mapping and is kept as the owner; what the peer writes in it is read as the
        // layout says: words as atomics, the rest only when a word or a completion has told of it.
        let region = unsafe {
            let (base, owner) = (arena.base(), Arc::clone(&arena));
            MemoryRegion::register(Arc::clone(domain), base, bytes, Access::RemoteWrite, owner)
        };
        let region = Arc::new(region.map_err(|error| PluginError::Register {
            device: device.describe(),
            bytes,
            kind: "host",
            cause: error.to_string(),
        })?);
        let choice = port.choice(&device.settings)?;
        let count = usize::from(terms.lanes);
        let receives = if role == Role::Receiver { layout::RECEIVES } else { 0 };
        let completions = (DEPTH + receives as u32) * count as u32;
        let completions = CompletionQueue::new(Arc::clone(&port.context), completions).map_err(refuse)?;
        let limits = QueuePairLimits { sends: DEPTH, receives: receives as u32, inline_bytes: 8 };
        let pairs = (0..count).map(|lane| {
            // An unpredictable first packet number keeps packets of an earlier connection out of this one.
            let random = nonce().map_err(|error| PluginError::system("getrandom", error))?;
            let first = u32::from_le_bytes([random[0], random[1], random[2], 0]);
            let (domain, completions) = (Arc::clone(domain), Arc::clone(&completions));
            let pair = QueuePair::new(domain, completions, choice.clone(), limits, first).map_err(refuse)?;
            // Before the sender can know of it.
            pair.post_receives(receives, lane as u64).map_err(refuse)?;
            Ok(pair)
        });
        let pairs = pairs.collect::<Result<_, PluginError>>()?;
        let mut options = device.settings.path;
        // A receiver sends announcements and nothing else.
        let announcements = device.settings.announcement_traffic_class.filter(|_| role == Role::Receiver);
        options.traffic_class = announcements.unwrap_or(terms.traffic_class);
        Ok(Self { device, port, completions, pairs, arena, region, options, terms: *terms })
    }

    /// What the peer must know.
    pub(crate) fn offer(&self) -> RdmaOffer {
        let pairs = self.pairs.iter().map(QueuePair::address).map(|address| {
            let QueuePairAddress { number, first_packet, gid, mtu } = address;
            Pair { number, first_packet, gid, mtu }
        });
        RdmaOffer {
            queue_pairs: pairs.collect(),
            address: self.region.address(),
            key: self.region.remote_key(),
        }
    }

    /// Connects every queue pair to its peer.
    pub(crate) fn connect(self, theirs: &RdmaOffer, peer: &str) -> Result<Connected, PluginError> {
        let device = self.device.describe();
        theirs.check(&self.terms).map_err(|cause| PluginError::Protocol {
            peer: peer.to_owned(),
            device: device.clone(),
            cause,
        })?;
        for (pair, Pair { number, first_packet, gid, mtu }) in self.pairs.iter().zip(&theirs.queue_pairs) {
            let (number, first_packet, gid, mtu) = (*number, *first_packet, *gid, *mtu);
            let address = QueuePairAddress { number, first_packet, gid, mtu };
            pair.connect_with(&address, self.options).map_err(|error| PluginError::Connect {
                peer: peer.to_owned(),
                device: device.clone(),
                cause: error.to_string(),
            })?;
        }
        Ok(Connected {
            port: self.port,
            lanes: self.pairs.into_iter().map(Lane::new).collect(),
            completions: self.completions,
            arena: self.arena,
            region: self.region,
            remote: Remote { address: theirs.address, key: theirs.key },
        })
    }
}

impl Connected {
    /// A place in the peer's memory.
    pub(super) fn remote(&self, offset: usize) -> Remote {
        Remote { address: self.remote.address.wrapping_add(offset as u64), key: self.remote.key }
    }
}
