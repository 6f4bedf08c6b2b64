//! `halo.h`: communicators and collectives for C.
//!
//! Rules that every function here keeps:
//! - It answers with a [`status::Status`]: 0, or the digits of the error's stable code. What went wrong is kept
//!   for the calling thread.
//! - Nothing unwinds into C: a panic becomes `HALO-E0511`, and the communicator it happened in is never used again.
//! - Pointers are checked before they are used, as far as a pointer can be checked: NULL, lengths that overflow,
//!   buffers that overlap, constants that do not exist.
//! - What a function creates, the function named in its documentation destroys; nothing else changes hands.
//!
//! `include/halo.h` is written from these files by cbindgen; `tests/header.rs` holds the two together.

pub mod allocation;
mod buffer;
pub mod collectives;
pub mod communicator;
pub mod config;
mod error;
pub mod queue;
pub mod registration;
pub mod request;
mod shared;
pub mod status;
pub mod store;
pub mod types;
pub mod version;
