//! libibverbs behind safe owners. The library is loaded at run time: a host without rdma-core gets an ordinary error,
//! and a program that links this crate starts everywhere.
//!
//! Owners hold what they depend on (a queue pair its completion queue, that its context), so that everything is given
//! back in the right order, whichever is dropped first. All of the project's RDMA `unsafe` is in this crate.

mod completion;
mod device;
mod error;
mod events;
mod gid;
mod library;
mod memory;
mod ports;
mod queue_pair;
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    unnameable_types,
    reason = "written by bindgen"
)]
mod sys;
mod work_request;

pub use completion::{Completion, CompletionQueue};
pub use device::{Context, Device, LinkLayer, Port, PortState, QueueLimits, TransportKind, devices};
pub use error::Error;
pub use events::AsyncEvent;
pub use gid::{Choice, Gid, GidKind, choose};
pub use memory::{Access, MemoryRegion, ProtectionDomain};
pub use ports::candidates;
pub use queue_pair::{PathOptions, QueuePair, QueuePairAddress, QueuePairLimits};
pub use work_request::{Remote, WorkRequest};
