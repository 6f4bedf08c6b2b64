//! Which bytes of a payload travel by which of a link's sockets. The first one carries every message: trailers, credit,
//! small payloads, and of a large payload the first part. The others carry the further parts of large payloads and nothing
//! else, in the order of their messages, so that a part needs no words of its own: the message's trailer says how long
//! it is.

use std::ops::Range;

use crate::layout::LINE;

/// The most sockets of one link.
pub(crate) const MOST_SOCKETS: usize = 8;
/// Payloads from this size on are split. Below it another system call costs more than it gains (docs/performance.md).
const SPLIT_BYTES: usize = 64 * 1024;

/// What travels by socket `index` of `sockets`, of a payload of `length` bytes.
#[inline]
pub(super) fn part(length: usize, sockets: usize, index: usize) -> Range<usize> {
    if sockets == 1 || length < SPLIT_BYTES {
        return if index == 0 { 0..length } else { length..length };
    }
    let share = length.div_ceil(sockets).next_multiple_of(LINE);
    (index * share).min(length)..((index + 1) * share).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_are_the_payload_and_only_large_ones_have_several(
            length in prop_oneof![0usize..300, 0usize..=1 << 20], sockets in 1usize..=MOST_SOCKETS,
        ) {
            let mut at = 0;
            for index in 0..sockets {
                let part = part(length, sockets, index);
                prop_assert_eq!(part.start, at);
                prop_assert!(!part.is_empty() || index > 0 || length == 0);
                prop_assert!(part.is_empty() || index == 0 || length >= SPLIT_BYTES);
                at = part.end;
            }
            prop_assert_eq!(at, length);
        }
    }
}
