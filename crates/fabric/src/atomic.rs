//! The atomics that flags are made of; the model checker of `tests/handover.rs` puts its own in their place.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
