//! Memory that is registered with every NIC port in use: each port has keys of its own.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use halo_verbs::{Error, ProtectionDomain};

use super::regions::Regions;

/// One run of memory, as each port knows it.
#[derive(Debug)]
pub(crate) struct Memory {
    ports: Vec<Regions>,
}

impl Memory {
    /// Registers `bytes` bytes from `base` with every port, see [`Regions::register`].
    ///
    /// # Errors
    /// The memlock limit, or a device refuses even small regions.
    ///
    /// # Safety
    /// As [`Regions::register`].
    pub(crate) unsafe fn register(
        domains: &[Arc<ProtectionDomain>],
        base: NonNull<u8>,
        bytes: usize,
        owner: &Arc<dyn Any + Send + Sync>,
        cut: impl Fn(usize) -> usize,
    ) -> Result<Self, Error> {
        let register = |domain: &Arc<ProtectionDomain>| {
            // SAFETY: this function's own contract.
            unsafe { Regions::register(domain, base, bytes, owner, &cut) }
        };
        Ok(Self { ports: domains.iter().map(register).collect::<Result<_, _>>()? })
    }

    /// As one port knows it.
    #[inline]
    pub(crate) fn at_port(&self, port: usize) -> &Regions {
        &self.ports[port]
    }
}
