//! Reducing the inputs of all ranks, in rank order, by the rules of [`ReduceOp`].
//!
//! Every rank does the same steps in the same order, so every rank gets the same bits. The code is written once, over
//! blocks of 64 bytes (`element`, `operator`, `blocks`), and compiled for each [`InstructionSet`]. Only the sums that
//! models exchange have a second version, with vector instructions by name (`x86_64`). Where a result goes from rank to
//! rank instead, each does one step of it (`partial`, `wide`).

mod blocks;
mod element;
mod environment;
mod float;
mod instruction_set;
mod kernel;
mod operator;
mod partial;
#[cfg(test)]
pub(crate) mod tests;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use halo_fabric::Rounding;

use crate::dtype::DType;
use crate::reduce_op::ReduceOp;
use element::{BLOCK, Block};
use environment::DefaultEnvironment;
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
    let _environment = DefaultEnvironment::enter();
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
    for source in sources {
        if let Source::Bytes(input) = source {
            assert_eq!(input.len(), output.len(), "inputs and output have one length");
        }
    }
    let whole = output.len() - output.len() % BLOCK;
    let reduction = Reduction { set, arithmetic, ranks };
    if whole > 0 {
        reduction.whole(sources, whole, output);
    }
    if whole < output.len() {
        reduction.rest(sources, whole, output);
    }
}

/// The arithmetic, and the code for it. All sources have the output's length.
#[derive(Debug, Clone, Copy)]
struct Reduction {
    set: InstructionSet,
    arithmetic: Arithmetic,
    ranks: usize,
}

impl Reduction {
    /// Reduces the first `whole` bytes, a number of whole blocks.
    fn whole(self, sources: &[Source<'_>], whole: usize, output: &mut [u8]) {
        let start = output.as_mut_ptr();
        with_values(sources.len(), start.cast_const(), |pointers| {
            for (source, pointer) in sources.iter().zip(&mut *pointers) {
                if let Source::Bytes(input) = source {
                    *pointer = input[..whole].as_ptr();
                }
            }
            // SAFETY: the pointers are those of slices at least `whole` bytes long, borrowed here, the output's
            // exclusively.
            unsafe { self.blocks(pointers, start, whole / BLOCK) };
        });
    }

    /// Reduces what follows the last whole block, in copies that have a whole block's room: on the stack for the usual
    /// numbers of ranks, and no more of it than two ranks need when they are two.
    fn rest(self, sources: &[Source<'_>], whole: usize, output: &mut [u8]) {
        const NOWHERE: *const u8 = std::ptr::null();
        match sources.len() {
            0..=2 => self.rest_in(sources, whole, output, &mut [[0; BLOCK]; 2], &mut [NOWHERE; 2]),
            3..=16 => self.rest_in(sources, whole, output, &mut [[0; BLOCK]; 16], &mut [NOWHERE; 16]),
            many => {
                self.rest_in(sources, whole, output, &mut vec![[0; BLOCK]; many], &mut vec![NOWHERE; many]);
            }
        }
    }

    #[inline]
    fn rest_in(
        self,
        sources: &[Source<'_>],
        whole: usize,
        output: &mut [u8],
        copies: &mut [Block],
        pointers: &mut [*const u8],
    ) {
        let rest = output.len() - whole;
        for (index, source) in sources.iter().enumerate() {
            let input = match source {
                Source::Bytes(input) => *input,
                Source::Output => output,
            };
            copies[index][..rest].copy_from_slice(&input[whole..]);
            pointers[index] = copies[index].as_ptr();
        }
        let mut result = [0; BLOCK];
        // SAFETY: every pointer is a block's.
        unsafe { self.blocks(&pointers[..sources.len()], result.as_mut_ptr(), 1) };
        output[whole..].copy_from_slice(&result[..rest]);
    }

    /// # Safety
    /// As [`Kernel::run`].
    #[inline]
    unsafe fn blocks(self, pointers: &[*const u8], output: *mut u8, blocks: usize) {
        let Self { set, arithmetic, ranks } = self;
        // SAFETY: as the caller promises.
        unsafe { Kernel::new(set, pointers, output, ranks).run(arithmetic, blocks) };
    }
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
