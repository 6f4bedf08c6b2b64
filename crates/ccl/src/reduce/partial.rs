//! Reductions that go from rank to rank: each adds its own elements to what the ranks before it have come to.
//!
//! A result that is rounded once must not be rounded on its way: narrow floats travel as the f32 that they are computed in.
//! Everything else travels as elements, which the largest, the smallest, and what is rounded after each step are anyway.

use halo_fabric::Rounding;

use super::environment::DefaultEnvironment;
use super::float::{self, Float};
use super::operator::{Avg, Operator, Prod, Sum};
use super::wide::{Buffers, Step, Stored};
use super::{Arithmetic, InstructionSet, Source, reduce_for};
use crate::dtype::DType;
use crate::reduce_op::ReduceOp;

/// What the ranks before have come to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Partial<'a> {
    /// Elements: one rank's input, or a result that is none the worse for it.
    Elements(&'a [u8]),
    /// An f32 for each element.
    Wide(&'a [u8]),
}

impl Arithmetic {
    /// Bytes that a partial result takes for each byte of elements.
    pub(crate) fn widening(self) -> usize {
        let each = self.rounding == Rounding::Each || matches!(self.op, ReduceOp::Max | ReduceOp::Min);
        match self.dtype {
            DType::F16 | DType::BF16 if !each => 2,
            DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz if !each => 4,
            _ => 1,
        }
    }

    /// What is computed before the last step.
    fn on_the_way(self) -> Self {
        let op = if self.op == ReduceOp::Avg { ReduceOp::Sum } else { self.op };
        Self { op, ..self }
    }
}

/// Adds this rank's elements to a partial result; `partial`, the new one, is [`Arithmetic::widening`] times as long.
///
/// # Panics
/// If lengths do not fit; the plan has checked them.
pub(crate) fn join(arithmetic: Arithmetic, so_far: Partial<'_>, own: &[u8], partial: &mut [u8]) {
    let _environment = DefaultEnvironment::enter();
    join_with(InstructionSet::best(), arithmetic, so_far, own, partial);
}

/// The last step: the result of all `ranks` ranks, as elements.
///
/// # Panics
/// As [`join`].
pub(crate) fn finish(
    arithmetic: Arithmetic,
    ranks: usize,
    so_far: Partial<'_>,
    own: Source<'_>,
    output: &mut [u8],
) {
    let _environment = DefaultEnvironment::enter();
    finish_with(InstructionSet::best(), arithmetic, ranks, so_far, own, output);
}

pub(super) fn join_with(
    set: InstructionSet,
    arithmetic: Arithmetic,
    so_far: Partial<'_>,
    own: &[u8],
    partial: &mut [u8],
) {
    let arithmetic = arithmetic.on_the_way();
    let widening = arithmetic.widening();
    assert_eq!(partial.len(), own.len() * widening, "room for a partial result");
    match so_far {
        Partial::Elements(so_far) if widening == 1 => {
            // Nothing is divided on the way, so how many ranks there are does not matter.
            reduce_for(set, arithmetic, 2, &[Source::Bytes(so_far), Source::Bytes(own)], partial);
        }
        Partial::Elements(so_far) => {
            assert_eq!(so_far.len(), own.len(), "elements for elements");
            // SAFETY: all slices are as long as this many elements take.
            unsafe { run::<false, false>(set, arithmetic, buffers(arithmetic, so_far, own, partial)) };
        }
        Partial::Wide(so_far) => {
            assert_eq!(so_far.len(), partial.len(), "an f32 for each element");
            // SAFETY: as above.
            unsafe { run::<true, false>(set, arithmetic, buffers(arithmetic, so_far, own, partial)) };
        }
    }
}

pub(super) fn finish_with(
    set: InstructionSet,
    arithmetic: Arithmetic,
    ranks: usize,
    so_far: Partial<'_>,
    own: Source<'_>,
    output: &mut [u8],
) {
    match so_far {
        Partial::Elements(so_far) => {
            reduce_for(set, arithmetic, ranks, &[Source::Bytes(so_far), own], output);
        }
        Partial::Wide(so_far) => {
            assert_eq!(so_far.len(), output.len() * arithmetic.widening(), "an f32 for each element");
            let start = output.as_mut_ptr();
            let own = match own {
                Source::Bytes(own) => {
                    assert_eq!(own.len(), output.len(), "input and output have one length");
                    own.as_ptr()
                }
                Source::Output => start.cast_const(),
            };
            let elements = output.len() / arithmetic.dtype.size();
            let buffers = Buffers { so_far: so_far.as_ptr(), own, output: start, elements, ranks };
            // SAFETY: all slices are as long as this many elements take; `own` is another one, or the output.
            unsafe { run::<true, true>(set, arithmetic, buffers) };
        }
    }
}

fn buffers(arithmetic: Arithmetic, so_far: &[u8], own: &[u8], partial: &mut [u8]) -> Buffers {
    let elements = own.len() / arithmetic.dtype.size();
    let (so_far, own, output) = (so_far.as_ptr(), own.as_ptr(), partial.as_mut_ptr());
    Buffers { so_far, own, output, elements, ranks: 2 }
}

/// # Safety
/// As [`Step::run`], and the processor has the instruction set.
unsafe fn run<const RESUME: bool, const FINISH: bool>(
    set: InstructionSet,
    arithmetic: Arithmetic,
    buffers: Buffers,
) {
    let op = arithmetic.op;
    // SAFETY: as the caller promises.
    unsafe {
        match arithmetic.dtype {
            DType::F16 => of_type::<float::F16, u16, RESUME, FINISH>(set, op, buffers),
            DType::BF16 => of_type::<float::Bf16, u16, RESUME, FINISH>(set, op, buffers),
            DType::F8E4M3 => of_type::<float::F8E4M3, u8, RESUME, FINISH>(set, op, buffers),
            DType::F8E5M2 => of_type::<float::F8E5M2, u8, RESUME, FINISH>(set, op, buffers),
            DType::F8E4M3Fnuz => of_type::<float::F8E4M3Fnuz, u8, RESUME, FINISH>(set, op, buffers),
            DType::F8E5M2Fnuz => of_type::<float::F8E5M2Fnuz, u8, RESUME, FINISH>(set, op, buffers),
            dtype => panic!("a partial result of {dtype} travels as elements"),
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn of_type<F: Float, S: Stored, const RESUME: bool, const FINISH: bool>(
    set: InstructionSet,
    op: ReduceOp,
    buffers: Buffers,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match op {
            ReduceOp::Sum => with::<F, S, Sum, RESUME, FINISH>(set, buffers),
            ReduceOp::Prod => with::<F, S, Prod, RESUME, FINISH>(set, buffers),
            ReduceOp::Avg => with::<F, S, Avg, RESUME, FINISH>(set, buffers),
            ReduceOp::Max | ReduceOp::Min => panic!("a partial {op} travels as elements"),
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn with<F: Float, S: Stored, O: Operator, const RESUME: bool, const FINISH: bool>(
    set: InstructionSet,
    buffers: Buffers,
) {
    // SAFETY: as the caller promises.
    unsafe { set.step::<Step<F, S, O, RESUME, FINISH>>(buffers) }
}
