//! Where everything lies in the memory that both sides of a connection write into. Both compute it from the same terms.

use bytemuck::{Pod, Zeroable};

use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, EAGER_SLOTS, MAX_LANES, MAX_POSTED};

/// What one cache line holds: flags that different sides write do not share one.
const LINE: usize = 64;
/// Announcements in the ring. A sender reads it with every message and has credit for few messages beyond what it has
/// read, so twice the receives that can wait are never overtaken.
pub(super) const RING: u64 = 2 * MAX_POSTED as u64;

/// The sender's memory: the receiver writes the first three, the sender fills the staging slots.
pub(super) mod sender {
    use super::{ANNOUNCEMENT_BYTES, LINE, RING, slots_bytes};

    /// Announcements written so far.
    pub(in super::super) const ANNOUNCED: usize = 0;
    /// Eager messages consumed so far.
    pub(in super::super) const CREDIT: usize = LINE;
    const RING_BEGIN: usize = 2 * LINE;
    pub(in super::super) const STAGING: usize = RING_BEGIN + RING as usize * ANNOUNCEMENT_BYTES;

    /// Where announcement `number`, counted from 0, lies.
    pub(in super::super) fn ring(number: u64) -> usize {
        RING_BEGIN + (number % RING) as usize * ANNOUNCEMENT_BYTES
    }

    pub(in super::super) fn bytes(eager_bytes: usize) -> usize {
        STAGING + slots_bytes(eager_bytes)
    }
}

/// The receiver's memory: the sender writes flags and slots, the receiver fills the staging ring.
pub(super) mod receiver {
    use super::{ANNOUNCEMENT_BYTES, MAX_LANES, MAX_POSTED, RING, slots_bytes};

    pub(in super::super) const SLOTS: usize = MAX_POSTED * MAX_LANES * 8;

    /// The word by which a lane says that its part of a message is there.
    pub(in super::super) fn flag(place: usize, lane: usize) -> usize {
        (place * MAX_LANES + lane) * 8
    }

    /// Where announcement `number` is put together.
    pub(in super::super) fn staging(number: u64, eager_bytes: usize) -> usize {
        SLOTS + slots_bytes(eager_bytes) + (number % RING) as usize * ANNOUNCEMENT_BYTES
    }

    pub(in super::super) fn bytes(eager_bytes: usize) -> usize {
        SLOTS + slots_bytes(eager_bytes) + RING as usize * ANNOUNCEMENT_BYTES
    }
}

/// What stands behind an eager payload. The payload ends, with its padding, where the record begins.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct EagerRecord {
    pub(super) tag: i32,
    pub(super) bytes: u32,
    pub(super) index: u64,
}

pub(super) const RECORD_BYTES: usize = size_of::<EagerRecord>();

/// One eager slot: payload, record, and a flag on a line of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Where the record begins.
    pub(super) record: usize,
    pub(super) flag: usize,
}

impl Slot {
    /// The slot of eager message `number`, counted from 0, in slots that begin at `base`.
    pub(super) fn of(base: usize, number: u64, eager_bytes: usize) -> Self {
        let begin = base + (number % EAGER_SLOTS as u64) as usize * stride(eager_bytes);
        let record = begin + eager_bytes.next_multiple_of(LINE);
        Self { record, flag: record + LINE }
    }

    /// Where a payload of so many bytes begins.
    pub(super) fn payload(self, bytes: usize) -> usize {
        self.record - bytes.next_multiple_of(8)
    }
}

fn stride(eager_bytes: usize) -> usize {
    eager_bytes.next_multiple_of(LINE) + 2 * LINE
}

fn slots_bytes(eager_bytes: usize) -> usize {
    EAGER_SLOTS * stride(eager_bytes)
}

/// The word that raises a receive's flag: the generation of its place, so that an old flag never looks new, and the
/// message's size.
pub(super) fn done_word(generation: u32, bytes: u64) -> u64 {
    u64::from(generation) << 40 | bytes
}

/// Generation and size of such a word.
pub(super) fn read_word(word: u64) -> (u32, u64) {
    ((word >> 40) as u32, word & ((1 << 40) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_lies_on_anything_else(eager_bytes in 0usize..=65536, number in 0u64..1000, bytes in 0usize..65536) {
            let bytes = bytes.min(eager_bytes);
            for (base, end) in [
                (sender::STAGING, sender::bytes(eager_bytes)),
                (receiver::SLOTS, receiver::staging(0, eager_bytes)),
            ] {
                let slot = Slot::of(base, number, eager_bytes);
                let next = Slot::of(base, number + 1, eager_bytes);
                prop_assert!(slot.payload(bytes) >= base && slot.flag + 8 <= end);
                prop_assert!(slot.record + RECORD_BYTES <= slot.flag && slot.flag.is_multiple_of(8));
                let later = (number + 1) % EAGER_SLOTS as u64 != 0;
                prop_assert!(!later || next.payload(eager_bytes) >= slot.flag + 8);
            }
            prop_assert!(receiver::flag(MAX_POSTED - 1, MAX_LANES - 1) + 8 <= receiver::SLOTS);
            prop_assert!(receiver::staging(number, eager_bytes) + ANNOUNCEMENT_BYTES <= receiver::bytes(eager_bytes));
            prop_assert!(sender::ring(number) + ANNOUNCEMENT_BYTES <= sender::STAGING);
        }

        #[test]
        fn a_word_is_read_as_it_was_written(generation in 1u32..=0xff_ffff, bytes in 0u64..=1 << 30) {
            prop_assert_eq!(read_word(done_word(generation, bytes)), (generation, bytes));
        }
    }
}
