//! Which bytes of a buffer concern which rank.

use std::ops::Range;

/// How a buffer is divided among the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// No rank has any.
    Nobody,
    /// Every rank has the same bytes.
    Same { start: usize, end: usize },
    /// One rank has the first bytes.
    Only { rank: usize, bytes: usize },
    /// Each rank has a share of about the same size: whole cache lines, what is left over to the last ranks.
    Shares { bytes: usize, share: usize },
    /// Each rank has a block of its own.
    Blocks { block: usize },
}

impl Parts {
    /// The same bytes for every rank.
    pub(crate) fn same(range: &Range<usize>) -> Self {
        Self::Same { start: range.start, end: range.end }
    }

    /// `bytes` bytes in shares for `world` ranks.
    pub(crate) fn shares(bytes: usize, world: usize) -> Self {
        const LINE: usize = 64;
        Self::Shares { bytes, share: bytes.div_ceil(world).next_multiple_of(LINE) }
    }

    /// The part of `rank`, if it has one; it may be empty.
    #[inline]
    pub(crate) fn of(self, rank: usize) -> Option<Range<usize>> {
        match self {
            Self::Nobody => None,
            Self::Same { start, end } => Some(start..end),
            Self::Only { rank: only, bytes } => (rank == only).then_some(0..bytes),
            Self::Shares { bytes, share } => Some((share * rank).min(bytes)..(share * (rank + 1)).min(bytes)),
            Self::Blocks { block } => Some(block * rank..block * (rank + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_cover_the_buffer_once(bytes in 0usize..5000, world in 1usize..17) {
            let parts = Parts::shares(bytes, world);
            let shares = (0..world).map(|rank| parts.of(rank).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(shares[0].start, 0);
            prop_assert_eq!(shares[world - 1].end, bytes);
            prop_assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
