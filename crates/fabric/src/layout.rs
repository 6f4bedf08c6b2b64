//! Where everything lies in an arena. All ranks compute the same layout from the settings they agreed on.
//!
//! An arena holds one mailbox for every peer, behind them one staging area for every peer, and a line for the bell:
//!
//! ```text
//! mailbox of a peer    slot 0 | slot 1 | ... | credit | lend    written by that peer, read by the owner
//! staging for a peer   slot 0 | slot 1 | ... | lend             written and sent by the owner (rdma)
//! bell                 says that the owner sleeps               see `doorbell`
//! slot                 payload area (slot_bytes) | trailer (64 bytes: header, flag)
//! ```
//!
//! Message number n (from 1) of a pair travels in slot (n - 1) % slots; the lower half of its flag takes the value n.
//! The trailer has a cache line of its own, so that polling the flag disturbs no payload. A short payload lies in the
//! header, any other in the payload area. In the lend line a peer says where its own output may be written (see
//! [`crate::Fabric::lend`]).

/// A cache line, and the grain of every offset here.
pub const LINE: usize = 64;

/// Sizes agreed by all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Number of ranks.
    pub world: usize,
    /// Payload bytes of one slot.
    pub slot_bytes: usize,
    /// Slots of one mailbox.
    pub slots: usize,
}

/// Offset of the flag in a trailer: its last 8 bytes.
pub const FLAG_IN_TRAILER: usize = LINE - 8;

impl Layout {
    /// Bytes of one slot with its trailer.
    #[inline]
    pub fn slot_stride(&self) -> usize {
        self.slot_bytes + LINE
    }

    #[inline]
    fn mailbox_bytes(&self) -> usize {
        self.slots * self.slot_stride() + 2 * LINE
    }

    #[inline]
    fn staging_bytes(&self) -> usize {
        self.slots * self.slot_stride() + LINE
    }

    /// Bytes of a whole arena.
    pub fn arena_bytes(&self) -> usize {
        self.bell() + LINE
    }

    /// Offset of the bell line.
    #[inline]
    pub fn bell(&self) -> usize {
        (self.world - 1) * (self.mailbox_bytes() + self.staging_bytes())
    }

    /// Which of the owner's `world - 1` areas belongs to `peer`.
    #[inline]
    fn index(owner: usize, peer: usize) -> usize {
        debug_assert_ne!(owner, peer, "a rank has no mailbox for itself");
        if peer < owner { peer } else { peer - 1 }
    }

    /// Offset, in `owner`'s arena, of the slot that takes message `number` (from 1) of `sender`.
    #[inline]
    pub fn slot(&self, owner: usize, sender: usize, number: u64) -> usize {
        Self::index(owner, sender) * self.mailbox_bytes() + self.slot_index(number) * self.slot_stride()
    }

    /// Offset, in `owner`'s arena, of the line where `sender` tells how many messages of `owner` it has consumed.
    #[inline]
    pub fn credit(&self, owner: usize, sender: usize) -> usize {
        Self::index(owner, sender) * self.mailbox_bytes() + self.slots * self.slot_stride()
    }

    /// Offset, in `owner`'s arena, of the line where `sender` tells what it lends to `owner`.
    pub fn lend(&self, owner: usize, sender: usize) -> usize {
        self.credit(owner, sender) + LINE
    }

    /// Offset, in `owner`'s arena, of the line from which it tells `peer` what it lends.
    pub fn staged_lend(&self, owner: usize, peer: usize) -> usize {
        self.staging(owner, peer, 1) + self.slots * self.slot_stride()
    }

    /// Offset, in `owner`'s arena, of the staging slot for its own message `number` (from 1) to `peer`.
    pub fn staging(&self, owner: usize, peer: usize, number: u64) -> usize {
        (self.world - 1) * self.mailbox_bytes()
            + Self::index(owner, peer) * self.staging_bytes()
            + self.slot_index(number) * self.slot_stride()
    }

    /// The last boundary between areas that is not behind `at`: where memory may be cut in two.
    pub fn cut(&self, at: usize) -> usize {
        let within = |at: usize, slots_then_lines: usize| {
            let slots = self.slots * self.slot_stride();
            let at = at % slots_then_lines;
            if at < slots { at % self.slot_stride() } else { (at - slots) % LINE }
        };
        let mailboxes = (self.world - 1) * self.mailbox_bytes();
        if at < mailboxes {
            at - within(at, self.mailbox_bytes())
        } else if at < self.bell() {
            at - within(at - mailboxes, self.staging_bytes())
        } else {
            self.bell()
        }
    }

    #[inline]
    fn slot_index(&self, number: u64) -> usize {
        debug_assert!(number > 0, "messages are numbered from 1");
        let (before, slots) = (number - 1, self.slots as u64);
        // A division would be on the way of every message, and there are 8 slots unless somebody says else.
        let index = if slots.is_power_of_two() { before & (slots - 1) } else { before % slots };
        index as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No two areas of an arena share a byte, and all lie within it on line boundaries.
        #[test]
        fn areas_never_overlap(world in 2usize..17, lines in 1usize..9, slots in 2usize..9) {
            let layout = Layout { world, slot_bytes: lines * LINE, slots };
            for owner in 0..world {
                let mut areas = Vec::new();
                for peer in (0..world).filter(|peer| *peer != owner) {
                    for number in 1..=slots as u64 {
                        areas.push((layout.slot(owner, peer, number), layout.slot_stride()));
                        areas.push((layout.staging(owner, peer, number), layout.slot_stride()));
                    }
                    areas.push((layout.credit(owner, peer), LINE));
                    areas.push((layout.lend(owner, peer), LINE));
                    areas.push((layout.staged_lend(owner, peer), LINE));
                }
                areas.push((layout.bell(), LINE));
                areas.sort_unstable();
                for pair in areas.windows(2) {
                    prop_assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "areas touch and do not overlap");
                }
                let (last, bytes) = areas[areas.len() - 1];
                prop_assert_eq!(areas[0].0, 0);
                prop_assert_eq!(last + bytes, layout.arena_bytes());
                prop_assert!(areas.iter().all(|(offset, _)| offset % LINE == 0));
                for at in (0..last).step_by(LINE / 2) {
                    let area = areas.partition_point(|(offset, _)| *offset <= at) - 1;
                    prop_assert_eq!(layout.cut(at), areas[area].0);
                }
            }
        }

        #[test]
        fn a_slot_is_used_again_after_a_whole_round(number in 1u64..1000, slots in 2usize..9) {
            let layout = Layout { world: 2, slot_bytes: 64, slots };
            prop_assert_eq!(layout.slot(0, 1, number), layout.slot(0, 1, number + slots as u64));
            prop_assert_ne!(layout.slot(0, 1, number), layout.slot(0, 1, number + 1));
        }
    }
}
