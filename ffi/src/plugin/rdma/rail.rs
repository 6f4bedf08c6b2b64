//! One port of a connection: what every port must have of its own.

use std::sync::Arc;

use halo_fabric::Arena;
use halo_verbs::{Access, CompletionQueue, MemoryRegion};

use super::lane::DEPTH;
use crate::plugin::device::{Device, RdmaPort};
use crate::plugin::error::PluginError;

/// A port with the completions of all queue pairs on it.
#[derive(Debug)]
pub(super) struct Rail {
    pub(super) port: &'static RdmaPort,
    pub(super) completions: Arc<CompletionQueue>,
    /// The connection's own memory, as this port has it.
    pub(super) region: MemoryRegion,
}

impl Rail {
    /// For so many queue pairs, each with so many receives.
    pub(super) fn new(
        device: &Device,
        port: &'static RdmaPort,
        arena: &Arc<Arena>,
        queue_pairs: usize,
        receives: usize,
    ) -> Result<Self, PluginError> {
        let domain = Arc::clone(port.domain()?);
        // SAFETY: the arena owns its mapping and is kept as the owner; what the peer writes in it is read as the
        // layout says: words as atomics, the rest only when a word or a completion has told of it.
        let region = unsafe {
            let owner = Arc::clone(arena);
            MemoryRegion::register(domain, arena.base(), arena.len(), Access::RemoteWrite, owner)
        };
        let region = region.map_err(|error| PluginError::Register {
            device: device.describe(),
            bytes: arena.len(),
            kind: "host",
            cause: error.to_string(),
        })?;
        let completions = (DEPTH + receives as u32) * queue_pairs.max(1) as u32;
        let completions = CompletionQueue::new(Arc::clone(&port.context), completions)
            .map_err(|error| PluginError::system("ibv_create_cq", error))?;
        Ok(Self { port, completions, region })
    }
}

/// The rail of each lane: every port has its turn.
pub(super) fn deal(lanes: usize, ports: usize) -> impl Iterator<Item = usize> {
    (0..lanes).map(move |lane| lane % ports)
}
