//! Memory of the caller's: what is registered, and what is shared with the peers of this host.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use super::Mesh;
use crate::arena::Arena;
use crate::error::FabricError;
use crate::link::{AnyLink, Source};
use crate::pages::{self, Pages};
use crate::rdma::RdmaEndpoint;
use crate::registration::Registration;
use crate::shared::{self, Invitation, SharedBuffer, Sharing};
use crate::shm::ShmExchange;

/// Payloads from this size on are read where they lie, and only outputs from this size on are lent. Whoever does not
/// copy must wait for the acknowledgement; at 10 GB/s that is a copy of 32 KiB if it takes 3 us longer than the write.
pub(super) const IN_PLACE_BYTES: usize = 32 * 1024;

impl Mesh {
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

    /// Allocates a buffer of `bytes` bytes, to be shared with [`Mesh::share`]; and what the other ranks must be told for
    /// that. Every rank shares the same number of bytes.
    ///
    /// # Errors
    /// No bytes, or the system refuses memory.
    pub fn begin_share(&mut self, bytes: usize) -> Result<(Sharing, Vec<u8>), FabricError> {
        if bytes == 0 {
            return Err(FabricError::NothingToRegister { address: 0, bytes });
        }
        let device = self.endpoint.as_ref().map(RdmaEndpoint::device);
        let Pages { arena: memory, description } = pages::allocate(shared::memory_bytes(bytes), device)
            .map_err(|cause| FabricError::SharedMemory { bytes, cause })?;
        tracing::debug!(bytes, pages = description, "shared buffer allocated");
        let local = self.peers.iter().flatten().any(|peer| matches!(peer.link, AnyLink::Shm(_)));
        let exchange = if local { Some(ShmExchange::open()?) } else { None };
        let offer = exchange.as_ref().map(|exchange| exchange.offer().clone());
        let invitation = Invitation { bytes, host: crate::host::name(), offer };
        let told = postcard::to_allocvec(&invitation).expect("an invitation is plain data");
        Ok((Sharing { memory, bytes, exchange }, told))
    }

    /// Shares a buffer, with what every rank has told, in rank order; what follows it is ignored.
    ///
    /// # Errors
    /// Ranks share different numbers of bytes, a peer does not come before the deadline, or the NIC refuses.
    pub fn share(
        &mut self,
        sharing: Sharing,
        told: &[&[u8]],
        deadline: Instant,
    ) -> Result<SharedBuffer, FabricError> {
        let Sharing { memory, bytes, exchange } = sharing;
        let invitations = told.iter().enumerate().map(|(rank, told)| Invitation::decode(told, rank));
        let invitations = invitations.collect::<Result<Vec<_>, _>>()?;
        if let Some(rank) = invitations.iter().position(|theirs| theirs.bytes != bytes) {
            return Err(FabricError::Disagreement {
                what: "bytes to allocate".to_owned(),
                rank,
                host: invitations[rank].host.clone(),
                theirs: invitations[rank].bytes.to_string(),
                our_rank: self.rank,
                our_host: invitations[self.rank].host.clone(),
                ours: bytes.to_string(),
            });
        }
        self.shares += 1;
        if let Some(mut exchange) = exchange {
            self.exchange_memory(&mut exchange, &memory, bytes, &invitations, deadline)?;
        }
        let (start, memory) = (memory.base().as_ptr(), Arc::new(memory));
        // SAFETY: the buffer owns the memory and, declared after its registration, outlives it.
        let registration = unsafe { self.register(start, bytes)? };
        let known = self.shared.add(start as usize, bytes, Arc::new(self.shares), 0);
        Ok(SharedBuffer::new(memory, bytes, known, registration))
    }

    /// Pushes the memory to every peer of this host and maps theirs.
    fn exchange_memory(
        &mut self,
        exchange: &mut ShmExchange,
        memory: &Arena,
        bytes: usize,
        invitations: &[Invitation],
        deadline: Instant,
    ) -> Result<(), FabricError> {
        let links = self.peers.iter_mut().enumerate();
        let mut local: Vec<_> = links
            .filter_map(|(rank, peer)| match &mut peer.as_mut()?.link {
                AnyLink::Shm(link) => Some((rank, link)),
                AnyLink::Rdma(_) | AnyLink::Tcp(_) => None,
            })
            .collect();
        for (rank, _) in &local {
            if let Some(offer) = &invitations[*rank].offer {
                ShmExchange::push(offer, self.rank, memory, deadline)?;
            }
        }
        for _ in 0..local.len() {
            let (from, theirs) = exchange.take(memory.len(), deadline)?;
            if let Some((_, link)) = local.iter_mut().find(|(rank, _)| *rank == from) {
                link.mapped().add(self.shares, bytes, theirs);
            }
        }
        Ok(())
    }

    /// Registered memory that holds all of these bytes, if it is worth being used.
    #[inline]
    pub(super) fn registered(&self, address: usize, bytes: usize) -> Option<Source> {
        if bytes < IN_PLACE_BYTES || self.registry.is_empty() {
            return None;
        }
        self.registry.find(address, bytes).map(|(memory, offset)| Source { memory, offset })
    }
}
