//! What is compiled for x86-64's vector instructions: the portable reduction, and sums of their own.

mod avx2;
mod avx512;
mod vectors;

use std::ops::Range;

use super::blocks;
use super::element::Element;
use super::operator::Operator;
use super::wide::{Buffers, Run};
use crate::dtype::DType;
use vectors::sum;

/// # Safety
/// As [`blocks::reduce`].
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn reduce_avx2<E: Element, O: Operator>(
    sources: &[*const u8],
    output: *mut u8,
    ranks: usize,
    blocks: Range<usize>,
) {
    // SAFETY: as the caller promises.
    unsafe { blocks::reduce::<E, O>(sources, output, ranks, blocks) }
}

/// # Safety
/// As [`blocks::reduce`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
pub(super) unsafe fn reduce_avx512<E: Element, O: Operator>(
    sources: &[*const u8],
    output: *mut u8,
    ranks: usize,
    blocks: Range<usize>,
) {
    // SAFETY: as the caller promises.
    unsafe { blocks::reduce::<E, O>(sources, output, ranks, blocks) }
}

/// # Safety
/// As [`Run::run`].
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn step_avx2<S: Run>(buffers: Buffers) {
    // SAFETY: as the caller promises.
    unsafe { S::run(buffers) }
}

/// # Safety
/// As [`Run::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
pub(super) unsafe fn step_avx512<S: Run>(buffers: Buffers) {
    // SAFETY: as the caller promises.
    unsafe { S::run(buffers) }
}

/// Sums the first blocks; how many those were.
///
/// # Safety
/// As [`blocks::reduce`].
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn sum_avx2(dtype: DType, sources: &[*const u8], output: *mut u8, blocks: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe {
        match dtype {
            DType::BF16 => sum::<avx2::Bf16>(sources, output, blocks),
            DType::F16 => sum::<avx2::F16>(sources, output, blocks),
            DType::F32 => sum::<avx2::F32>(sources, output, blocks),
            _ => 0,
        }
    }
}

/// Sums the first blocks; how many those were.
///
/// # Safety
/// As [`blocks::reduce`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
pub(super) unsafe fn sum_avx512(
    dtype: DType,
    sources: &[*const u8],
    output: *mut u8,
    blocks: usize,
) -> usize {
    // SAFETY: as the caller promises.
    unsafe {
        match dtype {
            DType::BF16 => sum::<avx512::Bf16>(sources, output, blocks),
            DType::F16 => sum::<avx512::F16>(sources, output, blocks),
            DType::F32 => sum::<avx512::F32>(sources, output, blocks),
            _ => 0,
        }
    }
}
