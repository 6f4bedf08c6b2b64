//! Blocks of elements: widened for arithmetic, combined lane by lane, narrowed again. All of it is arrays of a fixed
//! size, in plain loops (a closure would not be compiled for the caller's instruction set), which the compiler turns into
//! the vector instructions of whatever set it compiles for.

use std::marker::PhantomData;

use bytemuck::{Pod, must_cast};

use super::float::Float;
use super::operator::{Lane, Operator};

/// Bytes of one block: one cache line, one AVX-512 register, a whole number of every element.
pub(super) const BLOCK: usize = 64;

/// 32-bit words of one block.
const WORDS: usize = BLOCK / 4;

/// One block as it lies in memory, at any alignment.
pub(super) type Block = [u8; BLOCK];

/// An element type, as blocks of it are computed with.
pub(super) trait Element {
    /// One block's lanes.
    type Lanes: Lanes;

    fn widen(block: Block) -> Self::Lanes;

    /// Rounds to nearest, ties to even; NaN to the one quiet NaN.
    fn narrow(lanes: Self::Lanes) -> Block;

    /// What happens to the lanes after every step.
    #[inline(always)]
    fn settle(lanes: Self::Lanes) -> Self::Lanes {
        lanes
    }
}

/// Arrays of lanes, with the operators applied to each.
pub(super) trait Lanes: Copy {
    fn combine<O: Operator>(self, other: Self) -> Self;
    fn finish<O: Operator>(self, ranks: usize) -> Self;
}

impl<L: Lane, const N: usize, const PHASES: usize> Lanes for [[L; N]; PHASES] {
    #[inline(always)]
    fn combine<O: Operator>(mut self, other: Self) -> Self {
        for (ours, theirs) in self.iter_mut().zip(other) {
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours = O::combine(*ours, theirs);
            }
        }
        self
    }

    #[inline(always)]
    fn finish<O: Operator>(mut self, ranks: usize) -> Self {
        for lanes in &mut self {
            for lane in lanes {
                *lane = O::finish(*lane, ranks);
            }
        }
        self
    }
}

/// Integers: their own lanes.
pub(super) struct Integers<L, const N: usize>(PhantomData<L>);

impl<L: Lane, const N: usize> Element for Integers<L, N>
where
    [L; N]: Pod,
{
    type Lanes = [[L; N]; 1];

    #[inline(always)]
    fn widen(block: Block) -> Self::Lanes {
        [must_cast(block)]
    }

    #[inline(always)]
    fn narrow([lanes]: Self::Lanes) -> Block {
        must_cast(lanes)
    }
}

/// Truth values: 0 and 1, whose largest is "or" and whose smallest is "and".
pub(super) struct Bools;

impl Element for Bools {
    type Lanes = [[u8; BLOCK]; 1];

    #[inline(always)]
    fn widen(block: Block) -> Self::Lanes {
        let mut lanes = block;
        for lane in &mut lanes {
            *lane = u8::from(*lane != 0);
        }
        [lanes]
    }

    #[inline(always)]
    fn narrow([lanes]: Self::Lanes) -> Block {
        lanes
    }
}

/// 64-bit floats.
pub(super) struct F64s;

impl Element for F64s {
    type Lanes = [[f64; BLOCK / 8]; 1];

    #[inline(always)]
    fn widen(block: Block) -> Self::Lanes {
        [must_cast(block)]
    }

    #[inline(always)]
    fn narrow([lanes]: Self::Lanes) -> Block {
        let mut narrowed = lanes;
        for lane in &mut narrowed {
            *lane = if lane.is_nan() { f64::NAN } else { *lane };
        }
        must_cast(narrowed)
    }
}

/// Floats of up to 32 bits, `PER_WORD` of them in a 32-bit word. Lanes stay in their word's place: phase p holds each
/// word's element p as f32. So widening and narrowing are shifts within words, and no vector is ever torn apart.
pub(super) struct Floats<F, const PER_WORD: usize>(PhantomData<F>);

impl<F: Float, const PER_WORD: usize> Floats<F, PER_WORD> {
    const BITS: usize = 32 / PER_WORD;
    const MASK: u32 = u32::MAX >> (32 - Self::BITS);
}

impl<F: Float, const PER_WORD: usize> Element for Floats<F, PER_WORD> {
    type Lanes = [[f32; WORDS]; PER_WORD];

    #[inline(always)]
    fn widen(block: Block) -> Self::Lanes {
        let words: [u32; WORDS] = must_cast(block);
        let mut lanes = [[0.0; WORDS]; PER_WORD];
        for (phase, lanes) in lanes.iter_mut().enumerate() {
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = F::widen(word >> (phase * Self::BITS) & Self::MASK);
            }
        }
        lanes
    }

    #[inline(always)]
    fn narrow(mut lanes: Self::Lanes) -> Block {
        // A block without a NaN, which is to say nearly every one, is spared the work of looking for each.
        let mut any_nan = false;
        for lanes in &lanes {
            for lane in lanes {
                any_nan |= lane.is_nan();
            }
        }
        if any_nan {
            for lanes in &mut lanes {
                for lane in lanes {
                    *lane = if lane.is_nan() { f32::NAN } else { *lane };
                }
            }
        }
        let mut words = [0u32; WORDS];
        for (phase, lanes) in lanes.iter().enumerate() {
            for (word, lane) in words.iter_mut().zip(lanes) {
                *word |= F::narrow(*lane) << (phase * Self::BITS);
            }
        }
        must_cast(words)
    }
}

/// Floats that are rounded after every step, not only at the end.
pub(super) struct RoundEach<E>(PhantomData<E>);

impl<E: Element> Element for RoundEach<E> {
    type Lanes = E::Lanes;

    #[inline(always)]
    fn widen(block: Block) -> Self::Lanes {
        E::widen(block)
    }

    #[inline(always)]
    fn narrow(lanes: Self::Lanes) -> Block {
        E::narrow(lanes)
    }

    #[inline(always)]
    fn settle(lanes: Self::Lanes) -> Self::Lanes {
        E::widen(E::narrow(lanes))
    }
}
