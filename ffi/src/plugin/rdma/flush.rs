//! GPU-direct: the NIC's writes to GPU memory are behind it on the bus when a read of that memory comes back. A queue
//! pair that is connected to itself reads one byte. Of several ports each has written a part, so each reads.

use std::sync::Arc;

use halo_fabric::Arena;
use halo_verbs::{Access, Error, MemoryRegion, QueuePair, QueuePairLimits, Remote, WorkRequest};

use super::lane::{Kind, Lane, Name};
use super::rail::Rail;
use crate::plugin::comm::memory::Regions;
use crate::plugin::device::Device;
use crate::plugin::error::PluginError;
use crate::plugin::protocol::MAX_POSTED;

/// Where the byte lands.
const LANDING_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Flush {
    /// One for each rail.
    readers: Vec<Reader>,
    /// Of each request, the reads that have not come back.
    left: Vec<usize>,
}

#[derive(Debug)]
struct Reader {
    lane: Lane,
    landing: MemoryRegion,
}

impl Flush {
    /// On the connection's own completion queues.
    pub(super) fn new(device: &Device, rails: &[Rail]) -> Result<Self, PluginError> {
        let readers = rails.iter().enumerate().map(|(at, rail)| Reader::new(device, at, rail));
        Ok(Self { readers: readers.collect::<Result<_, _>>()?, left: vec![0; MAX_POSTED] })
    }

    /// Reads the byte at `address` of registered memory by every rail; an error comes with its rail.
    pub(super) fn post(
        &mut self,
        request: usize,
        regions: &Regions,
        address: u64,
    ) -> Result<(), (usize, Error)> {
        self.left[request] = self.readers.len();
        for (rail, Reader { lane, landing }) in self.readers.iter_mut().enumerate() {
            let from = Remote { address, key: regions.at(rail).remote_key() };
            let name = |place| Name { kind: Kind::Flush, lane: rail, request, place }.encode();
            let posted = WorkRequest::read(landing, 0, 1, from).and_then(|read| lane.post([read], name));
            posted.map_err(|error| (rail, error))?;
        }
        Ok(())
    }

    /// Notes that a read has come back; true when it was the request's last.
    pub(super) fn complete(&mut self, rail: usize, request: usize, place: u64) -> bool {
        self.readers[rail].lane.complete(place);
        self.left[request] -= 1;
        self.left[request] == 0
    }
}

impl Reader {
    fn new(device: &Device, at: usize, rail: &Rail) -> Result<Self, PluginError> {
        let refuse = |error: Error| PluginError::system("setting up the queue pair for flushes", error);
        let arena =
            Arena::allocate(LANDING_BYTES).map_err(|error| PluginError::system("memfd_create", error))?;
        let arena = Arc::new(arena);
        let domain = Arc::clone(rail.port.domain()?);
        // SAFETY: the arena owns its mapping and is kept as the owner; nobody reads what lands there.
        let landing = unsafe {
            let (base, owner) = (arena.base(), Arc::clone(&arena));
            MemoryRegion::register(Arc::clone(&domain), base, LANDING_BYTES, Access::Local, owner)
        };
        let landing = landing.map_err(refuse)?;
        let limits = QueuePairLimits { sends: MAX_POSTED as u32, receives: 1, inline_bytes: 0 };
        let choice = rail.port.choice(&device.settings)?;
        let pair =
            QueuePair::new(domain, Arc::clone(&rail.completions), choice, limits, 0).map_err(refuse)?;
        pair.connect_with(&pair.address(), device.settings.path).map_err(refuse)?;
        Ok(Self { lane: Lane::new(pair, at, at), landing })
    }
}
