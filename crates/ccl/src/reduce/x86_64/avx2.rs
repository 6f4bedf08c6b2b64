//! Sums with AVX2 and F16C.

#![allow(clippy::wildcard_imports, reason = "the names say where they come from")]

use std::arch::x86_64::*;

use super::vectors::Vectors;

/// Two blocks at a time, so that they share the question whether there is a NaN.
pub(super) struct Bf16;

impl Vectors for Bf16 {
    /// Of each block its two halves, and of each half the even elements of every pair, and the odd ones, as f32.
    type Lanes = [[__m256; 4]; 2];

    const STEP: usize = 128;
    const AHEAD: usize = 0;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe { [widen_block(from), widen_block(from.add(64))] }
    }

    #[inline(always)]
    unsafe fn add([a, b]: Self::Lanes, [c, d]: Self::Lanes) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe { [add(a, c), add(b, d)] }
    }

    #[inline(always)]
    unsafe fn store([mut a, mut b]: Self::Lanes, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe {
            if any_nan(_mm256_or_ps(nans(a), nans(b))) {
                (a, b) = (quiet(a), quiet(b));
            }
            narrow_block(a, to);
            narrow_block(b, to.add(64));
        }
    }
}

/// # Safety
/// 64 bytes are readable, and the processor has AVX2.
#[inline(always)]
unsafe fn widen_block(from: *const u8) -> [__m256; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        let ([a, b], [c, d]) = (widen(from), widen(from.add(32)));
        [a, b, c, d]
    }
}

/// # Safety
/// 64 bytes are writable, and the processor has AVX2.
#[inline(always)]
unsafe fn narrow_block([a, b, c, d]: [__m256; 4], to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        narrow([a, b], to);
        narrow([c, d], to.add(32));
    }
}

/// # Safety
/// 32 bytes are readable, and the processor has AVX2.
#[inline(always)]
unsafe fn widen(from: *const u8) -> [__m256; 2] {
    // SAFETY: as the caller promises.
    unsafe {
        let pairs = _mm256_loadu_si256(from.cast());
        let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(odd)]
    }
}

/// # Safety
/// 32 bytes are writable, and the processor has AVX2.
#[inline(always)]
unsafe fn narrow([even, odd]: [__m256; 2], to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let (even, odd) = (round(even), round(odd));
        let pairs = _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(even), odd);
        _mm256_storeu_si256(to.cast(), pairs);
    }
}

/// Makes the upper half the nearest one by adding just under half of its last bit, and that bit itself.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn round(lanes: __m256) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let bits = _mm256_castps_si256(lanes);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd)
    }
}

/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn add(mut a: [__m256; 4], b: [__m256; 4]) -> [__m256; 4] {
    for (a, b) in a.iter_mut().zip(b) {
        // SAFETY: as the caller promises.
        *a = unsafe { _mm256_add_ps(*a, b) };
    }
    a
}

/// Where any of these has a NaN.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn nans(lanes: [__m256; 4]) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        let first = _mm256_cmp_ps::<_CMP_UNORD_Q>(lanes[0], lanes[1]);
        let second = _mm256_cmp_ps::<_CMP_UNORD_Q>(lanes[2], lanes[3]);
        _mm256_or_ps(first, second)
    }
}

/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn any_nan(nans: __m256) -> bool {
    // SAFETY: as the caller promises.
    unsafe { _mm256_movemask_ps(nans) != 0 }
}

/// NaN to the one quiet NaN.
///
/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn quiet(mut lanes: [__m256; 4]) -> [__m256; 4] {
    for lanes in &mut lanes {
        // SAFETY: as the caller promises.
        *lanes = unsafe {
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(*lanes, *lanes);
            _mm256_blendv_ps(*lanes, _mm256_set1_ps(f32::NAN), nan)
        };
    }
    lanes
}

pub(super) struct F16;

impl Vectors for F16 {
    /// The quarters of the elements, as f32.
    type Lanes = [__m256; 4];

    const STEP: usize = 64;
    const AHEAD: usize = 0;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(32).cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(48).cast())),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe { add(a, b) }
    }

    #[inline(always)]
    unsafe fn store(mut lanes: Self::Lanes, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe {
            if any_nan(nans(lanes)) {
                lanes = quiet(lanes);
            }
            for (quarter, lanes) in lanes.into_iter().enumerate() {
                let narrow = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(lanes);
                _mm_storeu_si128(to.add(16 * quarter).cast(), narrow);
            }
        }
    }
}

pub(super) struct F32;

impl Vectors for F32 {
    type Lanes = [__m256; 4];

    const STEP: usize = 128;
    const AHEAD: usize = 0;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe {
            [
                _mm256_loadu_ps(from.cast()),
                _mm256_loadu_ps(from.add(32).cast()),
                _mm256_loadu_ps(from.add(64).cast()),
                _mm256_loadu_ps(from.add(96).cast()),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe { add(a, b) }
    }

    #[inline(always)]
    unsafe fn store(mut lanes: Self::Lanes, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe {
            if any_nan(nans(lanes)) {
                lanes = quiet(lanes);
            }
            for (quarter, lanes) in lanes.into_iter().enumerate() {
                _mm256_storeu_ps(to.add(32 * quarter).cast(), lanes);
            }
        }
    }
}
