//! The sums that models exchange, with vector instructions by name where the compiler's are slower. The steps are those
//! of the portable code, so the bits are too; the tests compare them.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::reduce::element::BLOCK;

/// Elements of one type in the registers of one instruction set. The functions are inlined into one that is compiled for
/// that set.
pub(super) trait Vectors {
    /// What one step works on.
    type Lanes: Copy;

    /// Bytes of a step: whole blocks.
    const STEP: usize;

    /// How many bytes ahead the inputs are asked for, whole steps; 0 not to ask. An input that a peer on this host has just
    /// written lies in its processor's cache, and what is computed of a step leaves no room to look far enough ahead.
    const AHEAD: usize;

    /// # Safety
    /// A step is readable, and the processor has the instruction set.
    unsafe fn load(from: *const u8) -> Self::Lanes;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// Rounds to nearest, ties to even; NaN to the one quiet NaN.
    ///
    /// # Safety
    /// A step is writable, and the processor has the instruction set.
    unsafe fn store(lanes: Self::Lanes, to: *mut u8);
}

/// Sums whole steps, and says how many blocks that were.
///
/// # Safety
/// As [`crate::reduce::blocks::reduce`] and [`Vectors`].
#[inline(always)]
pub(super) unsafe fn sum<V: Vectors>(sources: &[*const u8], output: *mut u8, blocks: usize) -> usize {
    let end = blocks * BLOCK / V::STEP * V::STEP;
    // SAFETY: as the caller promises.
    unsafe {
        match *sources {
            // With their number known, pointers stay in registers and the loop over them disappears.
            [a, b] => steps::<V>(&[a, b], output, end),
            [a, b, c] => steps::<V>(&[a, b, c], output, end),
            [a, b, c, d] => steps::<V>(&[a, b, c, d], output, end),
            _ => steps::<V>(sources, output, end),
        }
    }
    end / BLOCK
}

/// # Safety
/// As [`sum`], up to byte `end`.
#[inline(always)]
unsafe fn steps<V: Vectors>(sources: &[*const u8], output: *mut u8, end: usize) {
    let (first, others) = sources.split_first().expect("a reduction has an input");
    let mut at = 0;
    while at < end {
        // SAFETY: this step ends at `end` or before, and is read from every source before it is written.
        unsafe {
            // Never past the end, where a peer may be writing what comes next.
            if V::AHEAD > 0 && at + V::AHEAD < end {
                for source in sources {
                    for block in 0..V::STEP / BLOCK {
                        _mm_prefetch::<_MM_HINT_T0>(source.add(at + V::AHEAD + block * BLOCK).cast());
                    }
                }
            }
            let mut lanes = V::load(first.add(at));
            for source in others {
                lanes = V::add(lanes, V::load(source.add(at)));
            }
            V::store(lanes, output.add(at));
        }
        at += V::STEP;
    }
}
