//! The ports of an RDMA device: one, or those of several devices that are used as one.

use std::sync::Mutex;

use super::port::RdmaPort;
use crate::plugin::comm::memory::RegionCache;

/// Ports that one device can have. Which of them does something is its rail.
pub(crate) const MAX_PORTS: usize = 4;

/// Between one and [`MAX_PORTS`] ports. They belong to the devices that were found, and live as long as the process.
#[derive(Debug)]
pub(crate) struct RdmaPorts {
    ports: Vec<&'static RdmaPort>,
    /// Memory that the core has registered here: with all ports together.
    pub(crate) regions: Mutex<RegionCache>,
}

impl RdmaPorts {
    pub(crate) fn new(ports: Vec<&'static RdmaPort>) -> Self {
        assert!((1..=MAX_PORTS).contains(&ports.len()), "{} ports", ports.len());
        Self { ports, regions: Mutex::default() }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &'static RdmaPort> + '_ {
        self.ports.iter().copied()
    }

    pub(crate) fn count(&self) -> usize {
        self.ports.len()
    }

    pub(crate) fn first(&self) -> &'static RdmaPort {
        self.ports[0]
    }
}
