//! What an immediate value says: which message has come. How large it is comes with the completion.

use crate::plugin::protocol::MAX_POSTED;

const PLACE_BITS: u32 = 8;
const PARTS_BITS: u32 = 3;
const GENERATION_BITS: u32 = 20;
const INDEX_BITS: u32 = 15;
const EAGER: u32 = 1 << 31;

const _: () = assert!(MAX_POSTED <= 1 << PLACE_BITS && PLACE_BITS + PARTS_BITS + GENERATION_BITS == 31);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Immediate {
    /// One of `parts` parts of a message, written straight into the receive in a place; of the generation of the place's
    /// use there are the low bits.
    Part { place: usize, generation: u32, parts: usize },
    /// A message in the next eager slot; of its number among those with its tag there are the low bits.
    Eager { tag: u16, index: u32 },
}

impl Immediate {
    pub(super) fn part(place: u32, generation: u32, parts: usize) -> Self {
        Self::Part { place: place as usize, generation: generation & low(GENERATION_BITS), parts }
    }

    pub(super) fn eager(tag: u16, index: u64) -> Self {
        Self::Eager { tag, index: index as u32 & low(INDEX_BITS) }
    }

    pub(super) fn encode(self) -> u32 {
        match self {
            Self::Part { place, generation, parts } => {
                (generation << PARTS_BITS | (parts - 1) as u32) << PLACE_BITS | place as u32
            }
            Self::Eager { tag, index } => EAGER | u32::from(tag) << INDEX_BITS | index,
        }
    }

    pub(super) fn decode(value: u32) -> Self {
        if value & EAGER != 0 {
            return Self::Eager { tag: (value >> INDEX_BITS) as u16, index: value & low(INDEX_BITS) };
        }
        Self::Part {
            place: (value & low(PLACE_BITS)) as usize,
            generation: value >> (PLACE_BITS + PARTS_BITS),
            parts: (value >> PLACE_BITS & low(PARTS_BITS)) as usize + 1,
        }
    }
}

/// Whether a place's generation is the one that came.
pub(super) fn same_generation(whole: u32, came: u32) -> bool {
    whole & low(GENERATION_BITS) == came
}

/// The number whose low bits came: the one nearest to `next`, the number of the next receive with the tag. Messages and
/// receives are never farther apart than receives can wait and slots can be full.
pub(super) fn whole_index(next: u64, came: u32) -> Option<u64> {
    let ahead = came.wrapping_sub(next as u32) & low(INDEX_BITS);
    let signed = i64::from(ahead) - if ahead >> (INDEX_BITS - 1) == 0 { 0 } else { 1 << INDEX_BITS };
    next.checked_add_signed(signed)
}

const fn low(bits: u32) -> u32 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::protocol::MAX_LANES;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(
            place in 0..MAX_POSTED as u32, generation: u32, parts in 1..=MAX_LANES, tag: u16, index: u64,
        ) {
            let part = Immediate::part(place, generation, parts);
            prop_assert_eq!(Immediate::decode(part.encode()), part);
            let Immediate::Part { generation: came, .. } = part else { unreachable!() };
            prop_assert!(same_generation(generation, came));
            let eager = Immediate::eager(tag, index);
            prop_assert_eq!(Immediate::decode(eager.encode()), eager);
        }

        #[test]
        fn a_number_near_the_next_is_found_by_its_low_bits(next in 0u64..1 << 40, apart in -300i64..300) {
            prop_assume!(next.checked_add_signed(apart).is_some());
            let index = next.checked_add_signed(apart).unwrap();
            let Immediate::Eager { index: came, .. } = Immediate::eager(0, index) else { unreachable!() };
            prop_assert_eq!(whole_index(next, came), Some(index));
        }
    }
}
