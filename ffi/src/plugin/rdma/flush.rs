//! GPU-direct: the NIC's writes to GPU memory are behind it on the bus when a read of that memory comes back. A queue
//! pair that is connected to itself reads one byte.

use std::sync::Arc;

use halo_fabric::Arena;
use halo_verbs::{Access, Error, MemoryRegion, QueuePair, QueuePairLimits, Remote, WorkRequest};

use super::Connected;
use super::lane::{Kind, Lane, Name};
use crate::plugin::device::{Device, Kind as DeviceKind};
use crate::plugin::error::PluginError;
use crate::plugin::protocol::MAX_POSTED;

/// Where the byte lands.
const LANDING_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Flush {
    lane: Lane,
    landing: MemoryRegion,
}

impl Flush {
    /// On the connection's own completion queue.
    pub(super) fn new(device: &'static Device, connected: &Connected) -> Result<Self, PluginError> {
        let DeviceKind::Rdma(port) = &device.kind else {
            return Err(PluginError::system("flush", "not an RDMA device"));
        };
        let refuse = |error: Error| PluginError::system("setting up the queue pair for flushes", error);
        let arena =
            Arena::allocate(LANDING_BYTES).map_err(|error| PluginError::system("memfd_create", error))?;
        let arena = Arc::new(arena);
        let domain = Arc::clone(port.domain()?);
        // SAFETY: the arena owns its mapping and is kept as the owner; nobody reads what lands there.
        let landing = unsafe {
            let (base, owner) = (arena.base(), Arc::clone(&arena));
            MemoryRegion::register(Arc::clone(&domain), base, LANDING_BYTES, Access::Local, owner)
        };
        let landing = landing.map_err(refuse)?;
        let limits = QueuePairLimits { sends: MAX_POSTED as u32, receives: 1, inline_bytes: 0 };
        let choice = port.choice(&device.settings)?;
        let pair =
            QueuePair::new(domain, Arc::clone(&connected.completions), choice, limits, 0).map_err(refuse)?;
        pair.connect_with(&pair.address(), device.settings.path).map_err(refuse)?;
        Ok(Self { lane: Lane::new(pair), landing })
    }

    /// Reads the byte at `address` of a region.
    pub(super) fn post(&mut self, request: usize, region: &MemoryRegion, address: u64) -> Result<(), Error> {
        let from = Remote { address, key: region.remote_key() };
        let read = WorkRequest::read(&self.landing, 0, 1, from)?;
        self.lane.post([read], |place| Name { kind: Kind::Flush, lane: 0, request, place }.encode())
    }

    pub(super) fn complete(&mut self, place: u64) {
        self.lane.complete(place);
    }
}
