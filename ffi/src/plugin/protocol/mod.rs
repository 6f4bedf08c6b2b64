//! What both data paths have in common: how sends and receives find each other, and what a receiver tells its sender.
//!
//! The k-th send with a tag belongs to the k-th receive with that tag; both sides count for themselves. A receiver
//! announces every receive (its room, and over RDMA its address and key); a sender that has the announcement writes
//! straight into the receive. A small message need not wait for it: it goes eagerly, into one of a few slots, and
//! the receiver copies it when the receive is posted. An announcement that comes behind its message is passed over.

mod announcement;
mod matching;

pub(crate) use announcement::{ANNOUNCEMENT_BYTES, Announcement, KIND_ANNOUNCE, VERSION};
pub(crate) use matching::{Announced, Entry, Posted, TagCounters};

/// The version of everything that plugins say to each other.
pub(crate) const PROTOCOL_VERSION: u32 = 3;
/// Receives that can be posted on one connection: requests times grouped receives.
pub(crate) const MAX_POSTED: usize = super::abi::MAX_REQUESTS * super::device::MAX_RECEIVES;
/// Messages that may be on their way or unread without their receive being known.
pub(crate) const EAGER_SLOTS: usize = 16;
/// What one of them may carry at most.
pub(crate) const MAX_EAGER_BYTES: usize = 65536;
/// Queue pairs or sockets of one connection.
pub(crate) const MAX_LANES: usize = 8;

/// Queue pairs of a connection over so many ports: as many as were asked for, or so many more that each port has its
/// share.
pub(crate) fn lanes_over(ports: usize, asked: usize) -> usize {
    asked.next_multiple_of(ports).min(MAX_LANES - MAX_LANES % ports)
}

/// How a large message is split over lanes: equal parts, in whole pages, one per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Striping {
    pub(crate) lanes: usize,
    /// Messages from this size on are split.
    pub(crate) threshold: usize,
}

impl Striping {
    /// Offset and length of each part; a message below the threshold, and an empty one, is one part.
    pub(crate) fn parts(self, bytes: u64) -> impl Iterator<Item = (u64, u64)> {
        let split = self.lanes > 1 && bytes >= self.threshold as u64 && bytes > 0;
        let part =
            if split { bytes.div_ceil(self.lanes as u64).next_multiple_of(4096) } else { bytes.max(1) };
        let count = bytes.div_ceil(part).max(1);
        (0..count).map(move |index| (index * part, part.min(bytes - index * part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_as_many_lanes_as_the_others() {
        use crate::plugin::device::MAX_PORTS;
        assert_eq!(
            (1..=MAX_LANES).map(|asked| lanes_over(1, asked)).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!([1, 2, 3, 8].map(|asked| lanes_over(2, asked)), [2, 2, 4, 8]);
        assert_eq!([1, 4, 8].map(|asked| lanes_over(3, asked)), [3, 6, 6]);
        for (ports, asked) in
            (1..=MAX_PORTS).flat_map(|ports| (1..=MAX_LANES).map(move |asked| (ports, asked)))
        {
            let lanes = lanes_over(ports, asked);
            assert!(
                lanes.is_multiple_of(ports) && (ports..=MAX_LANES).contains(&lanes),
                "{ports} {asked}: {lanes}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn parts_cover_a_message_once_and_are_no_more_than_the_lanes(
            bytes in 0u64..1 << 31, lanes in 1usize..=MAX_LANES, threshold in 1usize..1 << 22,
        ) {
            let parts: Vec<_> = Striping { lanes, threshold }.parts(bytes).collect();
            proptest::prop_assert!(!parts.is_empty() && parts.len() <= lanes);
            let mut end = 0;
            for (offset, length) in &parts {
                proptest::prop_assert_eq!(*offset, end);
                end += length;
            }
            proptest::prop_assert_eq!(end, bytes);
            proptest::prop_assert!(bytes == 0 || parts.iter().all(|(_, length)| *length > 0));
            proptest::prop_assert!(bytes >= threshold as u64 || parts.len() == 1);
        }
    }
}
