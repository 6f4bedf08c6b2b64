//! Sums with AVX-512.

#![allow(clippy::wildcard_imports, reason = "the names say where they come from")]

use std::arch::x86_64::*;

use super::vectors::Vectors;

/// Measured: docs/performance.md.
const AHEAD: usize = 1024;

/// Two blocks at a time, so that they share the question whether there is a NaN.
pub(super) struct Bf16;

impl Vectors for Bf16 {
    /// Of each block the even elements of every pair, and the odd ones, as f32.
    type Lanes = [[__m512; 2]; 2];

    const STEP: usize = 128;
    const AHEAD: usize = AHEAD;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe { [widen(from), widen(from.add(64))] }
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
            if any_nan(a) | any_nan(b) != 0 {
                (a, b) = (quiet(a), quiet(b));
            }
            narrow(a, to);
            narrow(b, to.add(64));
        }
    }
}

/// # Safety
/// 64 bytes are readable, and the processor has AVX-512F.
#[inline(always)]
unsafe fn widen(from: *const u8) -> [__m512; 2] {
    // SAFETY: as the caller promises.
    unsafe {
        let pairs = _mm512_loadu_si512(from.cast());
        let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd)]
    }
}

/// # Safety
/// 64 bytes are writable, and the processor has AVX-512BW.
#[inline(always)]
unsafe fn narrow([even, odd]: [__m512; 2], to: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let (even, odd) = (round(even), round(odd));
        let pairs = _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(even), odd);
        _mm512_storeu_si512(to.cast(), pairs);
    }
}

/// Makes the upper half the nearest one by adding half of its last bit, or just under that if the bit is even.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn round(lanes: __m512) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        let bits = _mm512_castps_si512(lanes);
        let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x1_0000));
        let half = _mm512_mask_blend_epi32(odd, _mm512_set1_epi32(0x7fff), _mm512_set1_epi32(0x8000));
        _mm512_add_epi32(bits, half)
    }
}

/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn add(a: [__m512; 2], b: [__m512; 2]) -> [__m512; 2] {
    // SAFETY: as the caller promises.
    unsafe { [_mm512_add_ps(a[0], b[0]), _mm512_add_ps(a[1], b[1])] }
}

/// Not 0 if there is a NaN.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn any_nan(lanes: [__m512; 2]) -> __mmask16 {
    // SAFETY: as the caller promises.
    unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(lanes[0], lanes[1]) }
}

/// NaN to the one quiet NaN.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn quiet(lanes: [__m512; 2]) -> [__m512; 2] {
    // SAFETY: as the caller promises.
    unsafe { [quiet_one(lanes[0]), quiet_one(lanes[1])] }
}

/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn quiet_one(lanes: __m512) -> __m512 {
    // SAFETY: as the caller promises.
    unsafe {
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(lanes, lanes);
        _mm512_mask_blend_ps(nan, lanes, _mm512_set1_ps(f32::NAN))
    }
}

pub(super) struct F16;

impl Vectors for F16 {
    /// The first half of the elements and the second, as f32.
    type Lanes = [__m512; 2];

    const STEP: usize = 64;
    const AHEAD: usize = AHEAD;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe {
            [
                _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
                _mm512_cvtph_ps(_mm256_loadu_si256(from.add(32).cast())),
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
            if any_nan(lanes) != 0 {
                lanes = quiet(lanes);
            }
            let [first, second] = lanes;
            _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(first));
            _mm256_storeu_si256(to.add(32).cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(second));
        }
    }
}

pub(super) struct F32;

impl Vectors for F32 {
    type Lanes = [__m512; 2];

    const STEP: usize = 128;
    const AHEAD: usize = AHEAD;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Lanes {
        // SAFETY: as the caller promises.
        unsafe { [_mm512_loadu_ps(from.cast()), _mm512_loadu_ps(from.add(64).cast())] }
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
            if any_nan(lanes) != 0 {
                lanes = quiet(lanes);
            }
            _mm512_storeu_ps(to.cast(), lanes[0]);
            _mm512_storeu_ps(to.add(64).cast(), lanes[1]);
        }
    }
}
