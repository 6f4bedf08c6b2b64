//! From a reduction that is named at run time to the code that was compiled for it.

use std::ops::Range;

use halo_fabric::Rounding;

use super::element::{Bools, Element, F64s, Floats, Integers, RoundEach};
use super::operator::{Avg, Max, Min, Operator, Prod, Sum};
use super::{Arithmetic, InstructionSet, float};
use crate::dtype::DType;
use crate::reduce_op::ReduceOp;

/// Code for one instruction set, on its way to be chosen, and the buffers it will work on.
#[derive(Clone, Copy)]
pub(super) struct Kernel<'a> {
    set: InstructionSet,
    sources: &'a [*const u8],
    output: *mut u8,
    /// Of the whole reduction.
    ranks: usize,
}

impl<'a> Kernel<'a> {
    pub(super) fn new(set: InstructionSet, sources: &'a [*const u8], output: *mut u8, ranks: usize) -> Self {
        Self { set, sources, output, ranks }
    }

    /// Reduces `blocks` blocks of each source into the output.
    ///
    /// # Safety
    /// As [`super::blocks::reduce`], and the processor has the instruction set.
    pub(super) unsafe fn run(self, arithmetic: Arithmetic, blocks: usize) {
        let Arithmetic { dtype, op, rounding } = arithmetic;
        // The largest and the smallest are inputs: there is nothing to round.
        let each = rounding == Rounding::Each && !matches!(op, ReduceOp::Max | ReduceOp::Min);
        // SAFETY: as the caller promises.
        unsafe {
            let done = match op {
                ReduceOp::Sum if !each => self.set.sum(dtype, self.sources, self.output, blocks),
                _ => 0,
            };
            if done == blocks {
                return;
            }
            let blocks = done..blocks;
            match dtype {
                DType::F64 => self.elements::<F64s>(op, blocks),
                DType::F32 => self.elements::<Floats<float::F32, 1>>(op, blocks),
                DType::F16 => self.floats::<Floats<float::F16, 2>>(op, each, blocks),
                DType::BF16 => self.floats::<Floats<float::Bf16, 2>>(op, each, blocks),
                DType::F8E4M3 => self.floats::<Floats<float::F8E4M3, 4>>(op, each, blocks),
                DType::F8E5M2 => self.floats::<Floats<float::F8E5M2, 4>>(op, each, blocks),
                DType::F8E4M3Fnuz => self.floats::<Floats<float::F8E4M3Fnuz, 4>>(op, each, blocks),
                DType::F8E5M2Fnuz => self.floats::<Floats<float::F8E5M2Fnuz, 4>>(op, each, blocks),
                DType::I8 => self.elements::<Integers<i8, 64>>(op, blocks),
                DType::I16 => self.elements::<Integers<i16, 32>>(op, blocks),
                DType::I32 => self.elements::<Integers<i32, 16>>(op, blocks),
                DType::I64 => self.elements::<Integers<i64, 8>>(op, blocks),
                DType::U8 => self.elements::<Integers<u8, 64>>(op, blocks),
                DType::U16 => self.elements::<Integers<u16, 32>>(op, blocks),
                DType::U32 => self.elements::<Integers<u32, 16>>(op, blocks),
                DType::U64 => self.elements::<Integers<u64, 8>>(op, blocks),
                DType::Bool => self.bools(op, blocks),
            }
        }
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn elements<E: Element>(self, op: ReduceOp, blocks: Range<usize>) {
        // SAFETY: as the caller promises.
        unsafe {
            match op {
                ReduceOp::Sum => self.with::<E, Sum>(blocks),
                ReduceOp::Prod => self.with::<E, Prod>(blocks),
                ReduceOp::Max => self.with::<E, Max>(blocks),
                ReduceOp::Min => self.with::<E, Min>(blocks),
                ReduceOp::Avg => self.with::<E, Avg>(blocks),
            }
        }
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn floats<E: Element>(self, op: ReduceOp, each: bool, blocks: Range<usize>) {
        // SAFETY: as the caller promises.
        unsafe {
            match op {
                ReduceOp::Sum if each => self.with::<RoundEach<E>, Sum>(blocks),
                ReduceOp::Prod if each => self.with::<RoundEach<E>, Prod>(blocks),
                ReduceOp::Avg if each => self.with::<RoundEach<E>, Avg>(blocks),
                _ => self.elements::<E>(op, blocks),
            }
        }
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn bools(self, op: ReduceOp, blocks: Range<usize>) {
        // SAFETY: as the caller promises.
        unsafe {
            match op {
                ReduceOp::Sum | ReduceOp::Max => self.with::<Bools, Max>(blocks),
                ReduceOp::Prod | ReduceOp::Min => self.with::<Bools, Min>(blocks),
                ReduceOp::Avg => panic!("there is no average of truth values"),
            }
        }
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn with<E: Element, O: Operator>(self, blocks: Range<usize>) {
        // SAFETY: as the caller promises.
        unsafe { self.set.reduce::<E, O>(self.sources, self.output, self.ranks, blocks) }
    }
}
