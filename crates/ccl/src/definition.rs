//! The definition of every reduction, one element at a time and in the plainest words: what results are compared with,
//! in tests and by `halo-perf --check`. It shares nothing with the code that computes them, and is slow.

use std::sync::LazyLock;

use half::{bf16, f16};
use halo_fabric::Rounding;

use crate::dtype::DType;
use crate::reduce_op::ReduceOp;

/// The reduction of the inputs of all ranks, which have one length, a whole number of elements.
///
/// # Panics
/// If there is no input, lengths differ, or the type has no such reduction.
pub fn reduce(dtype: DType, op: ReduceOp, rounding: Rounding, inputs: &[Vec<u8>]) -> Vec<u8> {
    assert!(op.is_defined_for(dtype), "there is no {op} of {dtype}");
    let size = dtype.size();
    let mut output = Vec::with_capacity(inputs[0].len());
    for at in (0..inputs[0].len()).step_by(size) {
        let elements = inputs.iter().map(|input| load(&input[at..at + size]));
        let bits = match dtype {
            DType::F64 => float64(op, elements, inputs.len()),
            DType::Bool => bool(op, elements),
            _ if is_float(dtype) => float32(dtype, op, rounding, elements, inputs.len()),
            _ => integer(dtype, op, elements, inputs.len()),
        };
        output.extend_from_slice(&bits.to_le_bytes()[..size]);
    }
    output
}

/// Bytes that look random, the same for the same seed: as elements of any type, every encoding comes up.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    };
    (0..bytes).map(|_| draw()).collect()
}

/// Writes a number as an element: floats to the nearest one, integers and bool truncated.
pub fn put(dtype: DType, value: f32, element: &mut [u8]) {
    let bits = match dtype {
        DType::F64 => f64::from(value).to_bits(),
        DType::Bool => u64::from(value != 0.0),
        _ if is_float(dtype) => u64::from(encode(dtype, value)),
        _ => value as i64 as u64,
    };
    element.copy_from_slice(&bits.to_le_bytes()[..dtype.size()]);
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16) || is_float8(dtype)
}

fn is_float8(dtype: DType) -> bool {
    matches!(dtype, DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz)
}

fn load(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

fn bool(op: ReduceOp, mut elements: impl Iterator<Item = u64>) -> u64 {
    u64::from(match op {
        ReduceOp::Sum | ReduceOp::Max => elements.any(|element| element != 0),
        _ => elements.all(|element| element != 0),
    })
}

fn float64(op: ReduceOp, elements: impl Iterator<Item = u64>, ranks: usize) -> u64 {
    let value = elements.map(f64::from_bits).reduce(|a, b| match op {
        ReduceOp::Sum | ReduceOp::Avg => a + b,
        ReduceOp::Prod => a * b,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        ReduceOp::Max if a > b => a,
        ReduceOp::Min if a < b => a,
        _ => b,
    });
    let value = value.expect("there is an input");
    let value = if op == ReduceOp::Avg { value / ranks as f64 } else { value };
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn float32(
    dtype: DType,
    op: ReduceOp,
    rounding: Rounding,
    elements: impl Iterator<Item = u64>,
    ranks: usize,
) -> u64 {
    let value = elements.map(|bits| decode(dtype, bits as u32)).reduce(|a, b| {
        let value = match op {
            ReduceOp::Sum | ReduceOp::Avg => a + b,
            ReduceOp::Prod => a * b,
            _ if a.is_nan() || b.is_nan() => f32::NAN,
            ReduceOp::Max if a > b => a,
            ReduceOp::Min if a < b => a,
            _ => b,
        };
        if rounding == Rounding::Each { decode(dtype, encode(dtype, value)) } else { value }
    });
    let value = value.expect("there is an input");
    u64::from(encode(dtype, if op == ReduceOp::Avg { value / ranks as f32 } else { value }))
}

fn integer(dtype: DType, op: ReduceOp, elements: impl Iterator<Item = u64>, ranks: usize) -> u64 {
    let width = 8 * dtype.size();
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let wrap = |value: i128| {
        let kept = value & ((1 << width) - 1);
        if signed && kept >> (width - 1) == 1 { kept - (1 << width) } else { kept }
    };
    let value = elements.map(|bits| wrap(i128::from(bits))).reduce(|a, b| match op {
        ReduceOp::Sum | ReduceOp::Avg => wrap(a + b),
        ReduceOp::Prod => wrap(a.wrapping_mul(b)),
        ReduceOp::Max => a.max(b),
        ReduceOp::Min => a.min(b),
    });
    let value = value.expect("there is an input");
    (if op == ReduceOp::Avg { value / ranks as i128 } else { value }) as u64
}

/// The value of a float of up to 32 bits.
fn decode(dtype: DType, bits: u32) -> f32 {
    match dtype {
        DType::F32 => f32::from_bits(bits),
        DType::F16 => f16::from_bits(bits as u16).to_f32(),
        DType::BF16 => bf16::from_bits(bits as u16).to_f32(),
        _ => FLOATS_8[dtype as usize - DType::F8E4M3 as usize].decode(bits as u8),
    }
}

/// The nearest element, ties to the one whose last bit is 0; NaN to the quiet one with a positive sign.
fn encode(dtype: DType, value: f32) -> u32 {
    match dtype {
        DType::F32 if value.is_nan() => f32::NAN.to_bits(),
        DType::F32 => value.to_bits(),
        DType::F16 if value.is_nan() => f16::NAN.to_bits().into(),
        DType::F16 => f16::from_f32(value).to_bits().into(),
        DType::BF16 if value.is_nan() => bf16::NAN.to_bits().into(),
        DType::BF16 => bf16::from_f32(value).to_bits().into(),
        _ => FLOATS_8[dtype as usize - DType::F8E4M3 as usize].encode(value).into(),
    }
}

/// One of the 8-bit floats, as a list of its numbers.
struct Float8 {
    /// The numbers of the encodings from 0 on, and behind the largest what would follow it.
    numbers: Vec<f32>,
    /// What is larger than that becomes.
    beyond: u8,
    infinity: Option<u8>,
    nan: u8,
    has_minus_zero: bool,
}

/// In the order of [`DType`]; exponent bits, bias and specials from the OCP specification and from AMD's.
static FLOATS_8: LazyLock<[Float8; 4]> = LazyLock::new(|| {
    [
        Float8 {
            beyond: 0x7e,
            infinity: None,
            nan: 0x7f,
            has_minus_zero: true,
            numbers: numbers(4, 7, 0x7e),
        },
        Float8 {
            beyond: 0x7c,
            infinity: Some(0x7c),
            nan: 0x7e,
            has_minus_zero: true,
            numbers: numbers(5, 15, 0x7b),
        },
        Float8 {
            beyond: 0x80,
            infinity: None,
            nan: 0x80,
            has_minus_zero: false,
            numbers: numbers(4, 8, 0x7f),
        },
        Float8 {
            beyond: 0x80,
            infinity: None,
            nan: 0x80,
            has_minus_zero: false,
            numbers: numbers(5, 16, 0x7f),
        },
    ]
});

/// The values of the encodings from 0 to one above `largest`.
fn numbers(exponent_bits: i32, bias: i32, largest: i32) -> Vec<f32> {
    let steps = 1 << (7 - exponent_bits);
    let number = |encoding: i32| {
        let (exponent, fraction) = (encoding / steps, (encoding % steps) as f32 / steps as f32);
        match exponent {
            0 => fraction * 2f32.powi(1 - bias),
            _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
        }
    };
    (0..=largest + 1).map(number).collect()
}

impl Float8 {
    fn decode(&self, bits: u8) -> f32 {
        let (sign, magnitude) = (if bits & 0x80 == 0 { 1.0 } else { -1.0 }, bits & 0x7f);
        match self.numbers[..self.numbers.len() - 1].get(usize::from(magnitude)) {
            Some(_) if bits == self.nan => f32::NAN,
            Some(number) => sign * number,
            None if Some(magnitude) == self.infinity => sign * f32::INFINITY,
            None => f32::NAN,
        }
    }

    fn encode(&self, value: f32) -> u8 {
        if value.is_nan() {
            return self.nan;
        }
        let magnitude = value.abs();
        let above = self.numbers.partition_point(|number| *number < magnitude);
        let nearest = match above {
            0 => 0,
            _ if above == self.numbers.len() => above - 1,
            // All of these are exact in f64.
            _ => {
                let distance = |at: usize| (f64::from(self.numbers[at]) - f64::from(magnitude)).abs();
                let (low, high) = (distance(above - 1), distance(above));
                let upwards = high < low || high.total_cmp(&low).is_eq() && above % 2 == 0;
                if upwards { above } else { above - 1 }
            }
        };
        let sign = if value.is_sign_negative() { 0x80 } else { 0 };
        match nearest {
            0 if !self.has_minus_zero => 0,
            _ if nearest < self.numbers.len() - 1 => sign | nearest as u8,
            _ => self.beyond | sign,
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the values compared are exact")]
mod tests {
    use super::*;

    #[test]
    fn the_8_bit_floats_have_their_published_ranges() {
        for (float, largest, smallest, one) in [
            (&FLOATS_8[0], 448.0, 2f32.powi(-9), 0x38),
            (&FLOATS_8[1], 57344.0, 2f32.powi(-16), 0x3c),
            (&FLOATS_8[2], 240.0, 2f32.powi(-10), 0x40),
            (&FLOATS_8[3], 57344.0, 2f32.powi(-17), 0x40),
        ] {
            assert_eq!(float.decode(float.encode(largest)), largest);
            assert_eq!(float.decode(1), smallest);
            assert_eq!(float.encode(1.0), one);
            assert_eq!(float.decode(float.encode(-largest)), -largest);
            assert!(float.decode(float.encode(f32::NAN)).is_nan());
        }
        let beyond = |at: usize, value: f32| FLOATS_8[at].decode(FLOATS_8[at].encode(value));
        assert_eq!((beyond(0, 500.0), beyond(0, -f32::INFINITY)), (448.0, -448.0));
        assert_eq!((beyond(1, 61440.0), beyond(1, -61441.0)), (f32::INFINITY, -f32::INFINITY));
        assert!(beyond(2, 248.0).is_nan() && beyond(3, -61440.0).is_nan());
    }

    #[test]
    fn every_8_bit_float_encodes_as_itself() {
        for float in FLOATS_8.iter() {
            for bits in 0..=255u8 {
                let value = float.decode(bits);
                assert!(value.is_nan() || float.encode(value) == bits, "{bits:#x}");
            }
        }
    }
}
