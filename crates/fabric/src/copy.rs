//! Copies into a peer's memory on the same host.
//!
//! The C library leaves what is longer than a few KiB to the processor's string instruction. Where both processors' caches hold
//! the bytes, a loop of whole lines takes a seventh less time of an all-reduce (docs/performance.md); below and above
//! that there is nothing to gain, or something to lose.

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

/// Bytes of the copies that are made line by line. Whole slots are parts of something larger, which no cache holds.
#[cfg(target_arch = "x86_64")]
const BY_LINES: Range<usize> = 12 * 1024..128 * 1024;

/// Copies `bytes` bytes.
///
/// # Safety
/// `source` is readable and `target` writable for `bytes` bytes, and the two do not overlap.
#[inline]
pub(crate) unsafe fn copy(source: *const u8, target: *mut u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    if BY_LINES.contains(&bytes) && std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: as the caller promises, and the processor has these instructions.
        return unsafe { copy_by_lines(source, target, bytes) };
    }
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(source, target, bytes) }
}

/// # Safety
/// As [`copy`], and the processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn copy_by_lines(source: *const u8, target: *mut u8, bytes: usize) {
    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_storeu_si512};

    use crate::layout::LINE;

    /// Lines that are under way at a time.
    const LINES: usize = 4;
    let whole = bytes / (LINES * LINE) * (LINES * LINE);
    for at in (0..whole).step_by(LINES * LINE) {
        // SAFETY: these lines end at `whole` or before, within both.
        unsafe {
            let lines: [_; LINES] =
                std::array::from_fn(|line| _mm512_loadu_si512(source.add(at + line * LINE).cast()));
            for (line, bytes) in lines.into_iter().enumerate() {
                _mm512_storeu_si512(target.add(at + line * LINE).cast(), bytes);
            }
        }
    }
    // SAFETY: what is left of both.
    unsafe { std::ptr::copy_nonoverlapping(source.add(whole), target.add(whole), bytes - whole) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_length_at_every_place_is_copied_and_nothing_beside_it(
            length in prop_oneof![0usize..300, 12_000usize..12_700, 0usize..200_000], from in 0usize..64, to in 0usize..64,
        ) {
            let source: Vec<u8> = (0..from + length).map(|at| (at * 7 + at / 251) as u8 | 1).collect();
            let mut target = vec![0; to + length + 64];
            // SAFETY: both vectors have these bytes.
            unsafe { copy(source[from..].as_ptr(), target[to..].as_mut_ptr(), length) };
            prop_assert!(target[to..to + length] == source[from..]);
            prop_assert!(target[..to].iter().chain(&target[to + length..]).all(|byte| *byte == 0));
        }
    }
}
