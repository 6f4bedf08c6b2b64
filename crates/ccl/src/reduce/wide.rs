//! One step of a reduction that goes from rank to rank: narrow floats whose sum so far travels as f32. In plain loops over
//! arrays of a fixed size, as in `element`.

use std::marker::PhantomData;

use bytemuck::Pod;

use super::float::Float;
use super::operator::Operator;

/// Elements of one block.
const LANES: usize = 32;

type Lanes = [f32; LANES];

/// How an element lies in memory.
pub(super) trait Stored: Pod {
    fn bits(self) -> u32;
    fn of(bits: u32) -> Self;
}

macro_rules! stored {
    ($($word:ty)*) => {$(
        impl Stored for $word {
            #[inline(always)]
            fn bits(self) -> u32 {
                u32::from(self)
            }

            #[inline(always)]
            fn of(bits: u32) -> Self {
                bits as Self
            }
        }
    )*};
}

stored!(u8 u16);

/// What a step does: to elements of which float, by which operator, and whether the result so far is already wide
/// (`RESUME`), and whether this is the last step (`FINISH`).
pub(super) struct Step<F, S, O, const RESUME: bool, const FINISH: bool>(PhantomData<(F, S, O)>);

/// Where a step reads and writes: what came, this rank's own elements, and what becomes of both.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    pub(super) so_far: *const u8,
    pub(super) own: *const u8,
    pub(super) output: *mut u8,
    pub(super) elements: usize,
    /// Of the whole reduction.
    pub(super) ranks: usize,
}

/// A step, compiled for one instruction set or another.
pub(super) trait Run {
    /// # Safety
    /// All that `elements` elements take is readable, and writable at `output`, at any alignment. `own` may be `output`
    /// if this is the last step; otherwise nothing overlaps `output`.
    unsafe fn run(buffers: Buffers);
}

impl<F: Float, S: Stored, O: Operator, const RESUME: bool, const FINISH: bool> Run
    for Step<F, S, O, RESUME, FINISH>
{
    #[inline(always)]
    unsafe fn run(buffers: Buffers) {
        let (blocks, rest) = (buffers.elements / LANES, buffers.elements % LANES);
        // SAFETY: these are the elements, each once, and of each block all is read before it is written.
        unsafe {
            for block in 0..blocks {
                one::<F, S, O, RESUME, FINISH>(buffers, block * LANES, LANES);
            }
            if rest > 0 {
                one::<F, S, O, RESUME, FINISH>(buffers, blocks * LANES, rest);
            }
        }
    }
}

/// A block of `count` elements, from the one at `first` on.
///
/// # Safety
/// As [`Run::run`], and the elements are among them.
#[inline(always)]
unsafe fn one<F: Float, S: Stored, O: Operator, const RESUME: bool, const FINISH: bool>(
    Buffers { so_far, own, output, ranks, .. }: Buffers,
    first: usize,
    count: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let own = load::<S>(own, first, count);
        let so_far = if RESUME {
            load::<f32>(so_far, first, count)
        } else {
            widen::<F, S>(load::<S>(so_far, first, count))
        };
        let lanes = combine::<F, S, O>(so_far, own);
        if FINISH {
            store::<S>(narrow::<F, S, O>(lanes, ranks), output, first, count);
        } else {
            store::<f32>(lanes, output, first, count);
        }
    }
}

/// `count` values from the one at `first` on, at any alignment.
///
/// # Safety
/// They are readable, and no more than a block has room for.
#[inline(always)]
unsafe fn load<T: Pod>(from: *const u8, first: usize, count: usize) -> [T; LANES] {
    let mut block = [T::zeroed(); LANES];
    let (from, bytes) = (from.wrapping_add(first * size_of::<T>()), count * size_of::<T>());
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(from, block.as_mut_ptr().cast(), bytes) };
    block
}

/// # Safety
/// They are writable, and no more than a block has.
#[inline(always)]
unsafe fn store<T: Pod>(block: [T; LANES], to: *mut u8, first: usize, count: usize) {
    let (to, bytes) = (to.wrapping_add(first * size_of::<T>()), count * size_of::<T>());
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(block.as_ptr().cast(), to, bytes) };
}

#[inline(always)]
fn widen<F: Float, S: Stored>(elements: [S; LANES]) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (lane, element) in lanes.iter_mut().zip(elements) {
        *lane = F::widen(element.bits());
    }
    lanes
}

#[inline(always)]
fn combine<F: Float, S: Stored, O: Operator>(mut lanes: Lanes, own: [S; LANES]) -> Lanes {
    for (lane, own) in lanes.iter_mut().zip(widen::<F, S>(own)) {
        *lane = O::combine(*lane, own);
    }
    lanes
}

/// Rounds to nearest, ties to even; NaN to the one quiet NaN.
#[inline(always)]
fn narrow<F: Float, S: Stored, O: Operator>(lanes: Lanes, ranks: usize) -> [S; LANES] {
    let mut elements = [S::zeroed(); LANES];
    for (element, lane) in elements.iter_mut().zip(lanes) {
        let lane = O::finish(lane, ranks);
        *element = S::of(F::narrow(if lane.is_nan() { f32::NAN } else { lane }));
    }
    elements
}
