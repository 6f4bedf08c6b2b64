//! The two accesses that hand a slot over: what was written before a flag (or a credit) is raised can be read once it has
//! been seen. `tests/handover.rs` runs exactly these, with [`crate::window`], under a model checker.

use crate::atomic::{AtomicU64, Ordering};

/// Raises a flag or tells a credit, behind everything written before.
#[inline]
pub(crate) fn raise(flag: &AtomicU64, value: u64) {
    flag.store(value, Ordering::Release);
}

/// Reads a flag or a credit, before everything read after.
#[inline]
pub(crate) fn look(flag: &AtomicU64) -> u64 {
    flag.load(Ordering::Acquire)
}
