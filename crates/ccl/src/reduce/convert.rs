//! Elements to f32 and back, written so that the compiler turns a loop over them into vector instructions.

/// A type that is computed with as f32.
pub(super) trait Float {
    /// Bytes of one element.
    const BYTES: usize;
    /// Exactly the element's value.
    fn read(element: &[u8]) -> f32;
    /// The nearest element, ties to even, NaN to NaN.
    fn write(value: f32, element: &mut [u8]);
}

pub(super) struct F32;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    fn read(element: &[u8]) -> f32 {
        f32::from_le_bytes([element[0], element[1], element[2], element[3]])
    }

    #[inline(always)]
    fn write(value: f32, element: &mut [u8]) {
        element.copy_from_slice(&value.to_le_bytes());
    }
}

pub(super) struct Bf16;

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    fn read(element: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([element[0], element[1]])) << 16)
    }

    #[inline(always)]
    fn write(value: f32, element: &mut [u8]) {
        let bits = value.to_bits();
        // Adding just under half of the last kept bit, and that bit itself, rounds to nearest even with a carry that
        // runs into the exponent where it must. NaN would be carried away, so it keeps its upper half and turns quiet.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        let kept = if value.is_nan() { quiet } else { rounded };
        element.copy_from_slice(&(kept as u16).to_le_bytes());
    }
}

pub(super) struct F16;

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    fn read(element: &[u8]) -> f32 {
        let bits = u32::from(u16::from_le_bytes([element[0], element[1]]));
        let sign = (bits & 0x8000) << 16;
        let magnitude = bits & 0x7fff;
        // Placed 13 bits higher the field is a float whose exponent is 112 too small; multiplying by 2^112 corrects
        // it, subnormals included, and is exact.
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
        let special = magnitude >= 0x7c00;
        let value = if special { f32::from_bits(magnitude << 13 | 0x7f80_0000) } else { scaled };
        f32::from_bits(value.to_bits() | sign)
    }

    #[inline(always)]
    fn write(value: f32, element: &mut [u8]) {
        let bits = value.to_bits();
        let sign = bits >> 16 & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        // Normal results: take 112 off the exponent and round the 13 lost bits to nearest even.
        let rebased = magnitude.wrapping_sub(112 << 23);
        let normal = rebased.wrapping_add(0xfff + (rebased >> 13 & 1)) >> 13;
        // Subnormal results: adding 0.5 puts the last kept bit where f32's own rounding works on it.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let finite = if magnitude < 113 << 23 { subnormal } else { normal };
        let overflowed = if magnitude >= 0x477f_f000 { 0x7c00 } else { finite };
        let kept = if magnitude > 0x7f80_0000 { 0x7e00 } else { overflowed };
        element.copy_from_slice(&((kept | sign) as u16).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    #[test]
    fn every_f16_and_bf16_reads_as_its_value() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            let (ours, theirs) = (F16::read(&bytes), f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "f16 {bits:#06x}"
            );
            let (ours, theirs) = (Bf16::read(&bytes), bf16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "bf16 {bits:#06x}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn every_f32_writes_as_the_nearest(bits: u32) {
            let value = f32::from_bits(bits);
            let mut bytes = [0; 2];
            F16::write(value, &mut bytes);
            let (ours, theirs) = (f16::from_le_bytes(bytes), f16::from_f32(value));
            prop_assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{ours:?} {theirs:?}");
            Bf16::write(value, &mut bytes);
            let (ours, theirs) = (bf16::from_le_bytes(bytes), bf16::from_f32(value));
            prop_assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{ours:?} {theirs:?}");
        }

        /// Near the borders between normal, subnormal and overflow, where uniform bits rarely fall.
        #[test]
        fn f16_borders_write_as_the_nearest(exponent in 95u32..146, mantissa in 0u32..1 << 23, sign: bool) {
            let value = f32::from_bits(u32::from(sign) << 31 | exponent << 23 | mantissa);
            let mut bytes = [0; 2];
            F16::write(value, &mut bytes);
            prop_assert_eq!(f16::from_le_bytes(bytes).to_bits(), f16::from_f32(value).to_bits());
        }
    }
}
