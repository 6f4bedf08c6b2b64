//! The vector instructions of this processor.

use std::sync::LazyLock;

use super::blocks;
use super::element::Element;
use super::operator::Operator;

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
        blocks: usize,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Baseline => blocks::reduce::<E, O>(sources, output, blocks),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => with_avx2::<E, O>(sources, output, blocks),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => with_avx512::<E, O>(sources, output, blocks),
            }
        }
    }
}

/// # Safety
/// As [`blocks::reduce`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn with_avx2<E: Element, O: Operator>(sources: &[*const u8], output: *mut u8, blocks: usize) {
    // SAFETY: as the caller promises.
    unsafe { blocks::reduce::<E, O>(sources, output, blocks) }
}

/// # Safety
/// As [`blocks::reduce`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,f16c")]
unsafe fn with_avx512<E: Element, O: Operator>(sources: &[*const u8], output: *mut u8, blocks: usize) {
    // SAFETY: as the caller promises.
    unsafe { blocks::reduce::<E, O>(sources, output, blocks) }
}
