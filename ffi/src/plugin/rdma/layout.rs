//! Where everything lies in the memory that the peer writes into. Both sides compute it from the same terms.

use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, EAGER_SLOTS, MAX_POSTED};

/// What one cache line holds.
const LINE: usize = 64;
/// Announcements in the ring. A sender reads it with every message and has credit for few messages beyond what it has
/// read, so twice the receives that can wait are never overtaken.
pub(super) const RING: u64 = 2 * MAX_POSTED as u64;
/// Receives of a receiver's queue pair that are given back together.
pub(super) const RECEIVES_AT_ONCE: usize = 16;
/// Receives that a receiver's queue pair begins with: one for everything that can be under way at one time.
pub(super) const RECEIVES: usize = MAX_POSTED + EAGER_SLOTS + RECEIVES_AT_ONCE;

/// The sender's memory, which the receiver writes.
pub(super) mod sender {
    use super::{ANNOUNCEMENT_BYTES, LINE, RING};

    /// Announcements written so far.
    pub(in super::super) const ANNOUNCED: usize = 0;
    /// Eager messages consumed so far.
    pub(in super::super) const CREDIT: usize = LINE;
    const RING_BEGIN: usize = 2 * LINE;
    pub(in super::super) const BYTES: usize = RING_BEGIN + RING as usize * ANNOUNCEMENT_BYTES;

    /// Where announcement `number`, counted from 0, lies.
    pub(in super::super) fn ring(number: u64) -> usize {
        RING_BEGIN + (number % RING) as usize * ANNOUNCEMENT_BYTES
    }
}

/// The receiver's memory: the sender writes the first two, the receiver puts announcements together in the rest.
pub(super) mod receiver {
    use super::{ANNOUNCEMENT_BYTES, EAGER_SLOTS, LINE, RING};

    /// Not 0 while announcements would be in vain.
    pub(in super::super) const QUIET: usize = 0;
    const SLOTS: usize = LINE;

    /// Where the payload of eager message `number`, counted from 0, lies.
    pub(in super::super) fn slot(number: u64, eager_bytes: usize) -> usize {
        SLOTS + (number % EAGER_SLOTS as u64) as usize * eager_bytes.next_multiple_of(LINE)
    }

    /// Where announcement `number` is put together.
    pub(in super::super) fn staging(number: u64, eager_bytes: usize) -> usize {
        let slots = EAGER_SLOTS * eager_bytes.next_multiple_of(LINE);
        SLOTS + slots + (number % RING) as usize * ANNOUNCEMENT_BYTES
    }

    pub(in super::super) fn bytes(eager_bytes: usize) -> usize {
        staging(0, eager_bytes) + RING as usize * ANNOUNCEMENT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_lies_on_anything_else(eager_bytes in 0usize..=65536, number in 0u64..1000) {
            let (slot, next) = (receiver::slot(number, eager_bytes), receiver::slot(number + 1, eager_bytes));
            let last = (number + 1) % EAGER_SLOTS as u64 == 0;
            let end = if last { receiver::staging(0, eager_bytes) } else { next };
            prop_assert!(slot >= receiver::QUIET + 8 && slot + eager_bytes <= end);
            prop_assert!(receiver::staging(number, eager_bytes) + ANNOUNCEMENT_BYTES <= receiver::bytes(eager_bytes));
            prop_assert!(sender::ring(number) >= sender::CREDIT + 8);
            prop_assert!(sender::ring(number) + ANNOUNCEMENT_BYTES <= sender::BYTES);
        }
    }
}
