//! One arena of memory per rank. Peers write a payload into it and raise a flag behind it; whoever consumes polls
//! the flag in its own memory. RDMA, TCP and shared memory differ only in how a write travels.
//!
//! [`Mesh::connect`] has all ranks meet and returns the [`Fabric`] over which `halo-ccl` runs its collectives.

mod arena;
mod atomic;
mod bootstrap;
mod config;
mod control;
mod copy;
mod doorbell;
mod error;
mod fabric;
mod flag;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod interrupt;
mod key;
mod layout;
mod link;
mod memory;
mod mesh;
mod message;
mod pages;
mod poll;
mod rdma;
mod registration;
mod shared;
mod shm;
pub mod sim;
mod tcp;
mod window;
mod wire;

pub use arena::Arena;
pub use bootstrap::{Rendezvous, Store, StoreError, reserve_port};
pub use config::{Config, DEFAULT_SLOT_BYTES, DEFAULT_SLOTS, LostRail, Rounding, TransportChoice};
pub use error::FabricError;
pub use fabric::Fabric;
pub use interrupt::Interrupt;
pub use key::{Key, PROOF_BYTES, Role, nonce};
pub use link::Transport;
pub use mesh::{LinkBytes, LinkInfo, Mesh, RailBytes};
pub use message::{Message, Tag};
pub use registration::Registration;
pub use shared::{SharedBuffer, Sharing};
pub use wire::{PREAMBLE_BYTES, PROTOCOL_VERSION, Preamble, Purpose, encode_frame, take_frame, would_wait};

/// The most ranks of one communicator; far above what the hardware reaches, it bounds what a configuration can ask.
pub const MAX_WORLD: usize = 1024;
