//! Copies into a peer's memory on the same host.
//!
//! The C library leaves what is longer than a few KiB to the processor's string instruction. On processors that are slow to
//! begin one, and where both processors' caches hold the bytes, a loop of whole lines takes a seventh less time of an
//! all-reduce; on those with fast short strings it takes a third more (docs/performance.md). Below and above there is nothing
//! to gain, or something to lose.

#[cfg(target_arch = "x86_64")]
mod lines {
    use std::arch::x86_64::{__cpuid_count, _mm512_loadu_si512, _mm512_storeu_si512};
    use std::ops::Range;
    use std::sync::LazyLock;

    use crate::layout::LINE;

    /// Bytes of the copies that are made so. Whole slots are parts of something larger, which no cache holds.
    pub(super) const BYTES: Range<usize> = 12 * 1024..128 * 1024;

    /// Lines that are under way at a time.
    const GROUP: usize = 4 * LINE;

    /// A processor takes a load for one that reads what it has just stored, and waits, if the two addresses differ by a multiple of
    /// this.
    const PAGE: usize = 4096;
    /// Stores that wait for their lines cover less than the rest of a page.
    const APART: usize = PAGE / 8;

    /// Whether this processor has the vectors, and a string instruction that is slow to begin: one without fast short strings
    /// (FSRM: Intel's manual, volume 2, CPUID, leaf 7, bit 4 of EDX).
    pub(super) static PAY: LazyLock<bool> = LazyLock::new(|| {
        std::arch::is_x86_feature_detected!("avx512f") && __cpuid_count(7, 0).edx & 1 << 4 == 0
    });

    /// Which way a copy never loads from where, but for whole pages, it has just stored: the last group first, or the first.
    pub(super) fn last_first(source: usize, target: usize) -> Option<bool> {
        match target.wrapping_sub(source) % PAGE {
            1..=APART => Some(true),
            ahead if ahead == 0 || ahead >= PAGE - APART => Some(false),
            _ => None,
        }
    }

    /// # Safety
    /// As [`super::copy`], and the processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn copy(source: *const u8, target: *mut u8, bytes: usize, last_first: bool) {
        let groups = bytes / GROUP;
        for turn in 0..groups {
            let at = GROUP * if last_first { groups - 1 - turn } else { turn };
            // SAFETY: this group ends within both.
            unsafe {
                let lines: [_; GROUP / LINE] =
                    std::array::from_fn(|line| _mm512_loadu_si512(source.add(at + line * LINE).cast()));
                for (line, bytes) in lines.into_iter().enumerate() {
                    _mm512_storeu_si512(target.add(at + line * LINE).cast(), bytes);
                }
            }
        }
        let whole = groups * GROUP;
        // SAFETY: what is left of both.
        unsafe { std::ptr::copy_nonoverlapping(source.add(whole), target.add(whole), bytes - whole) }
    }
}

/// Copies `bytes` bytes.
///
/// # Safety
/// `source` is readable and `target` writable for `bytes` bytes, and the two do not overlap.
#[inline]
pub(crate) unsafe fn copy(source: *const u8, target: *mut u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    if lines::BYTES.contains(&bytes)
        && *lines::PAY
        && let Some(last_first) = lines::last_first(source.addr(), target.addr())
    {
        // SAFETY: as the caller promises, and the processor has these instructions.
        return unsafe { lines::copy(source, target, bytes, last_first) };
    }
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(source, target, bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Copy = unsafe fn(*const u8, *mut u8, usize);

    /// Those that this processor can make, whichever is chosen.
    fn copies() -> Vec<Copy> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "there is one"))]
        let mut copies: Vec<Copy> = vec![copy];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: as `copy`, and the processor has these instructions.
            copies.push(|source, target, bytes| unsafe { lines::copy(source, target, bytes, false) });
            // SAFETY: as `copy`, and the processor has these instructions.
            copies.push(|source, target, bytes| unsafe { lines::copy(source, target, bytes, true) });
        }
        copies
    }

    proptest! {
        #[test]
        fn every_length_at_every_place_is_copied_and_nothing_beside_it(
            length in prop_oneof![0usize..300, 12_000usize..12_700, 0usize..200_000], from in 0usize..4096, to in 0usize..4096,
        ) {
            let source: Vec<u8> = (0..from + length).map(|at| (at * 7 + at / 251) as u8 | 1).collect();
            for copy in copies() {
                let mut target = vec![0; to + length + 64];
                // SAFETY: both vectors have these bytes.
                unsafe { copy(source[from..].as_ptr(), target[to..].as_mut_ptr(), length) };
                prop_assert!(target[to..to + length] == source[from..]);
                prop_assert!(target[..to].iter().chain(&target[to + length..]).all(|byte| *byte == 0));
            }
        }
    }
}
