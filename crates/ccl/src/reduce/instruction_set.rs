//! The vector instructions of this processor.

use std::ops::Range;
use std::sync::LazyLock;

use super::blocks;
use super::element::Element;
use super::operator::Operator;
use super::wide::{Buffers, Run};
#[cfg(target_arch = "x86_64")]
use super::x86_64;
use crate::dtype::DType;

/// What the reduction is compiled for. The additions are the same ones in each, so the bits are too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// What every processor of the architecture has: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors, with their byte and word instructions.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// Those that this processor has, the best last.
    pub(crate) fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "the baseline is all there is"))]
        let mut available = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("f16c") {
                available.push(Self::Avx2);
                if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") {
                    available.push(Self::Avx512);
                }
            }
        }
        available
    }

    /// The best one that this processor has, looked up once.
    pub(super) fn best() -> Self {
        static BEST: LazyLock<InstructionSet> =
            LazyLock::new(|| *InstructionSet::available().last().expect("every processor has the baseline"));
        *BEST
    }

    /// [`blocks::reduce`], compiled for this set.
    ///
    /// # Safety
    /// As [`blocks::reduce`], and the processor has this set.
    pub(super) unsafe fn reduce<E: Element, O: Operator>(
        self,
        sources: &[*const u8],
        output: *mut u8,
        ranks: usize,
        blocks: Range<usize>,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Baseline => blocks::reduce::<E, O>(sources, output, ranks, blocks),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => x86_64::reduce_avx2::<E, O>(sources, output, ranks, blocks),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => x86_64::reduce_avx512::<E, O>(sources, output, ranks, blocks),
            }
        }
    }

    /// [`Run::run`], compiled for this set.
    ///
    /// # Safety
    /// As [`Run::run`], and the processor has this set.
    pub(super) unsafe fn step<S: Run>(self, buffers: Buffers) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Baseline => S::run(buffers),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => x86_64::step_avx2::<S>(buffers),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => x86_64::step_avx512::<S>(buffers),
            }
        }
    }

    /// Sums the first blocks in this set's own words, if it has any for the type; how many those were.
    ///
    /// # Safety
    /// As [`blocks::reduce`], and the processor has this set.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "the baseline has none"))]
    pub(super) unsafe fn sum(
        self,
        dtype: DType,
        sources: &[*const u8],
        output: *mut u8,
        blocks: usize,
    ) -> usize {
        match self {
            Self::Baseline => 0,
            // SAFETY: as the caller promises.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86_64::sum_avx2(dtype, sources, output, blocks) },
            // SAFETY: as the caller promises.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86_64::sum_avx512(dtype, sources, output, blocks) },
        }
    }
}
