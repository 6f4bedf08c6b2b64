//! Floats of up to 32 bits to f32 and back, bit by bit and without branches.

/// A float that is computed with as f32.
pub(super) trait Float {
    /// Exactly the value; `bits` has nothing above the element.
    fn widen(bits: u32) -> f32;

    /// The nearest element, ties to even. A NaN comes as `f32::NAN` itself.
    fn narrow(value: f32) -> u32;
}

pub(super) struct F32;

impl Float for F32 {
    #[inline(always)]
    fn widen(bits: u32) -> f32 {
        f32::from_bits(bits)
    }

    #[inline(always)]
    fn narrow(value: f32) -> u32 {
        value.to_bits()
    }
}

pub(super) struct Bf16;

impl Float for Bf16 {
    #[inline(always)]
    fn widen(bits: u32) -> f32 {
        f32::from_bits(bits << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> u32 {
        round(value.to_bits(), 16)
    }
}

/// Drops the lowest bits, to nearest even. Adding just under half of the last kept bit, and that bit itself, carries
/// into the exponent where it must; f32::NAN has nothing there that could carry.
#[inline(always)]
fn round(bits: u32, dropped: u32) -> u32 {
    let half = (1 << (dropped - 1)) - 1;
    (bits.wrapping_add(half + (bits >> dropped & 1))) >> dropped
}

/// What the largest exponent means.
#[derive(PartialEq)]
pub(super) enum Specials {
    /// Infinities and NaNs, as IEEE 754 has them.
    Ieee,
    /// Numbers, but for all ones, which is NaN (`fn`). What is too large becomes the largest.
    OnlyNan,
    /// Numbers. NaN is what would be minus zero (`fnuz`). What is too large becomes NaN.
    NanForMinusZero,
}

/// A small float's layout: sign, exponent, mantissa.
pub(super) trait Format {
    const EXPONENT_BITS: u32;
    const MANTISSA_BITS: u32;
    const BIAS: u32;
    const SPECIALS: Specials;
}

pub(super) struct F16;

impl Format for F16 {
    const EXPONENT_BITS: u32 = 5;
    const MANTISSA_BITS: u32 = 10;
    const BIAS: u32 = 15;
    const SPECIALS: Specials = Specials::Ieee;
}

pub(super) struct F8E4M3;

impl Format for F8E4M3 {
    const EXPONENT_BITS: u32 = 4;
    const MANTISSA_BITS: u32 = 3;
    const BIAS: u32 = 7;
    const SPECIALS: Specials = Specials::OnlyNan;
}

pub(super) struct F8E5M2;

impl Format for F8E5M2 {
    const EXPONENT_BITS: u32 = 5;
    const MANTISSA_BITS: u32 = 2;
    const BIAS: u32 = 15;
    const SPECIALS: Specials = Specials::Ieee;
}

pub(super) struct F8E4M3Fnuz;

impl Format for F8E4M3Fnuz {
    const EXPONENT_BITS: u32 = 4;
    const MANTISSA_BITS: u32 = 3;
    const BIAS: u32 = 8;
    const SPECIALS: Specials = Specials::NanForMinusZero;
}

pub(super) struct F8E5M2Fnuz;

impl Format for F8E5M2Fnuz {
    const EXPONENT_BITS: u32 = 5;
    const MANTISSA_BITS: u32 = 2;
    const BIAS: u32 = 16;
    const SPECIALS: Specials = Specials::NanForMinusZero;
}

/// Mantissa bits of f32, and its exponent's bias.
const MANTISSA: u32 = 23;
const BIAS: u32 = 127;

impl<F: Format> Float for F {
    #[inline(always)]
    fn widen(bits: u32) -> f32 {
        let sign_bit = 1 << (F::EXPONENT_BITS + F::MANTISSA_BITS);
        let sign = (bits & sign_bit) << (31 - (F::EXPONENT_BITS + F::MANTISSA_BITS));
        let magnitude = bits & (sign_bit - 1);
        let shifted = magnitude << (MANTISSA - F::MANTISSA_BITS);
        let normal = shifted + ((BIAS - F::BIAS) << MANTISSA);
        // A subnormal lacks the leading one of a number with the smallest exponent; subtracting it is exact.
        let smallest = (BIAS - F::BIAS + 1) << MANTISSA;
        let subnormal = (f32::from_bits(shifted + smallest) - f32::from_bits(smallest)).to_bits();
        let number = if magnitude < 1 << F::MANTISSA_BITS { subnormal } else { normal };
        let (is_special, special) = match F::SPECIALS {
            Specials::Ieee => {
                let infinity = ((1 << F::EXPONENT_BITS) - 1) << F::MANTISSA_BITS;
                (magnitude >= infinity, shifted | f32::INFINITY.to_bits())
            }
            Specials::OnlyNan => (magnitude == sign_bit - 1, f32::NAN.to_bits()),
            Specials::NanForMinusZero => (bits == sign_bit, f32::NAN.to_bits()),
        };
        f32::from_bits(sign | if is_special { special } else { number })
    }

    #[inline(always)]
    fn narrow(value: f32) -> u32 {
        let sign_bit = 1 << (F::EXPONENT_BITS + F::MANTISSA_BITS);
        let bits = value.to_bits();
        let sign = bits >> (31 - (F::EXPONENT_BITS + F::MANTISSA_BITS)) & sign_bit;
        let magnitude = bits & (u32::MAX >> 1);
        let smallest = (BIAS - F::BIAS + 1) << MANTISSA;
        let rebased = magnitude.wrapping_sub((BIAS - F::BIAS) << MANTISSA);
        let normal = round(rebased, MANTISSA - F::MANTISSA_BITS);
        // Adding a power of two whose last bit is worth the smallest subnormal lets f32's own addition round.
        let power = smallest + ((MANTISSA - F::MANTISSA_BITS) << MANTISSA);
        let subnormal = (f32::from_bits(magnitude) + f32::from_bits(power)).to_bits().wrapping_sub(power);
        let rounded = if magnitude < smallest { subnormal } else { normal };
        match F::SPECIALS {
            Specials::Ieee => {
                let infinity = ((1 << F::EXPONENT_BITS) - 1) << F::MANTISSA_BITS;
                let quiet = infinity | 1 << (F::MANTISSA_BITS - 1);
                sign | if value.is_nan() { quiet } else { rounded.min(infinity) }
            }
            Specials::OnlyNan => sign | if value.is_nan() { sign_bit - 1 } else { rounded.min(sign_bit - 2) },
            Specials::NanForMinusZero if rounded >= sign_bit => sign_bit,
            Specials::NanForMinusZero => rounded | if rounded == 0 { 0 } else { sign },
        }
    }
}
