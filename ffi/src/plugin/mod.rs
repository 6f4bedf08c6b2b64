//! The net plugin for RCCL and NCCL, and the tuner beside it.
//!
//! [`export`] is what the core finds in the library; [`abi`] declares what both sides know of each other. Behind them
//! is one core that knows no version: [`device`]s, [`connection`]s that are set up without waiting, and the two data
//! paths, [`tcp`] and [`rdma`], which share how sends and receives find each other ([`protocol`]).

pub mod abi;
mod boundary;
mod comm;
mod connection;
mod device;
pub mod error;
pub mod export;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod log;
mod process;
mod protocol;
mod rdma;
mod settings;
mod statistics;
mod tcp;
mod tuner;
