//! Reducing the inputs of all ranks, in rank order, by the rules of [`ReduceOp`].
//!
//! Every rank does the same steps in the same order, so every rank gets the same bits. The code is written once, over
//! blocks of 64 bytes (`element`, `operator`, `blocks`), and compiled for each [`InstructionSet`]. Only the sums that
//! models exchange have a second version, with vector instructions by name (`x86_64`). Where a result goes from rank to
//! rank instead, each does one step of it (`partial`, `wide`).

mod blocks;
mod element;
mod float;
mod instruction_set;
mod kernel;
mod operator;
mod partial;
#[cfg(test)]
mod tests;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use halo_fabric::Rounding;

use crate::dtype::DType;
use crate::reduce_op::ReduceOp;
use element::{BLOCK, Block};
pub(crate) use instruction_set::InstructionSet;
use kernel::Kernel;
pub(crate) use partial::{Partial, finish, join};

/// What is to be computed.
#[derive(Debug, Clone, Copy)]
pub struct Arithmetic {
    /// What the bytes are.
    pub dtype: DType,
    /// Defined for `dtype`.
    pub op: ReduceOp,
    /// How often narrow floats are rounded.
    pub rounding: Rounding,
}

/// Where one rank's input lies.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In memory of its own.
    Bytes(&'a [u8]),
    /// In the output buffer, which the result will replace.
    Output,
}

/// Reduces `sources`, in their order, into `output`. All have `output`'s length, a whole number of elements.
///
/// # Panics
/// If lengths differ, there is no source, or the type has no such reduction; the communicator has checked all three.
pub fn reduce(arithmetic: Arithmetic, sources: &[Source<'_>], output: &mut [u8]) {
    reduce_for(InstructionSet::best(), arithmetic, sources.len(), sources, output);
}

/// The same for a reduction of `ranks` inputs in all, of which these are the last ones.
fn reduce_for(
    set: InstructionSet,
    arithmetic: Arithmetic,
    ranks: usize,
    sources: &[Source<'_>],
    output: &mut [u8],
) {
    let whole = output.len() - output.len() % BLOCK;
    for source in sources {
        if let Source::Bytes(input) = source {
            assert_eq!(input.len(), output.len(), "inputs and output have one length");
        }
    }
    if whole > 0 {
        reduce_whole(set, arithmetic, ranks, sources, whole, output);
    }
    if whole < output.len() {
        reduce_rest(set, arithmetic, ranks, sources, whole, output);
    }
}

/// Reduces the first `whole` bytes, a number of whole blocks. All sources have `output`'s length.
fn reduce_whole(
    set: InstructionSet,
    arithmetic: Arithmetic,
    ranks: usize,
    sources: &[Source<'_>],
    whole: usize,
    output: &mut [u8],
) {
    let start = output.as_mut_ptr();
    with_values(sources.len(), start.cast_const(), |pointers| {
        for (source, pointer) in sources.iter().zip(&mut *pointers) {
            if let Source::Bytes(input) = source {
                *pointer = input[..whole].as_ptr();
            }
        }
        // SAFETY: the pointers are those of slices at least `whole` bytes long, borrowed here, the output's exclusively.
        unsafe { Kernel::new(set, pointers, start, ranks).run(arithmetic, whole / BLOCK) };
    });
}

/// Reduces what follows the last whole block, in copies that have a whole block's room.
fn reduce_rest(
    set: InstructionSet,
    arithmetic: Arithmetic,
    ranks: usize,
    sources: &[Source<'_>],
    whole: usize,
    output: &mut [u8],
) {
    let rest = output.len() - whole;
    let mut result = [0; BLOCK];
    with_values(sources.len(), [0; BLOCK], |padded: &mut [Block]| {
        for (source, padded) in sources.iter().zip(&mut *padded) {
            let input = match source {
                Source::Bytes(input) => *input,
                Source::Output => output,
            };
            padded[..rest].copy_from_slice(&input[whole..]);
        }
        with_values(sources.len(), std::ptr::null(), |pointers| {
            for (block, pointer) in padded.iter().zip(&mut *pointers) {
                *pointer = block.as_ptr();
            }
            // SAFETY: every pointer is a block's.
            unsafe { Kernel::new(set, pointers, result.as_mut_ptr(), ranks).run(arithmetic, 1) };
        });
    });
    output[whole..].copy_from_slice(&result[..rest]);
}

/// Lends `work` as many values as there are sources: on the stack for the usual numbers of ranks, and no more of it than
/// two ranks need when they are two.
#[inline]
fn with_values<T: Copy>(count: usize, value: T, work: impl FnOnce(&mut [T])) {
    match count {
        0..=2 => work(&mut [value; 2][..count]),
        3..=16 => work(&mut [value; 16][..count]),
        _ => work(&mut vec![value; count]),
    }
}
