//! Adding (or comparing) the inputs of all ranks, in rank order.
//!
//! All types go through f32: accumulate in f32 in rank order, round once at the end, to nearest even. Every rank does
//! the same additions in the same order, so every rank gets the same bits. The work is done in blocks that stay in
//! the first-level cache, and compiled several times, for the vector instructions that the processor turns out to
//! have; the additions are the same ones in each, so the bits are too.

mod convert;

use crate::dtype::{DType, ReduceOp};
use convert::{Bf16, F16, F32, Float};

/// Where one rank's input lies.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In memory of its own.
    Bytes(&'a [u8]),
    /// In the output buffer, which the result will replace.
    Output,
}

/// Elements per block: 4 KiB of f32 accumulators.
const BLOCK: usize = 1024;

/// Reduces `sources`, in their order, into `output`. All have `output`'s length.
///
/// # Panics
/// If lengths differ or the type has no arithmetic; the communicator has checked both.
pub fn reduce(dtype: DType, op: ReduceOp, sources: &[Source<'_>], output: &mut [u8]) {
    for source in sources {
        if let Source::Bytes(bytes) = source {
            assert_eq!(bytes.len(), output.len(), "inputs and output have one length");
        }
    }
    match dtype {
        DType::F32 => select::<F32>(op, sources, output),
        DType::F16 => select::<F16>(op, sources, output),
        DType::BF16 => select::<Bf16>(op, sources, output),
        DType::U8 => unreachable!("u8 was refused before"),
    }
}

fn select<T: Float>(op: ReduceOp, sources: &[Source<'_>], output: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has just been found to have these features.
            return unsafe { with_avx512::<T>(op, sources, output) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c") {
            // SAFETY: the processor has just been found to have these features.
            return unsafe { with_avx2::<T>(op, sources, output) };
        }
    }
    in_blocks::<T>(op, sources, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,f16c")]
fn with_avx512<T: Float>(op: ReduceOp, sources: &[Source<'_>], output: &mut [u8]) {
    in_blocks::<T>(op, sources, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn with_avx2<T: Float>(op: ReduceOp, sources: &[Source<'_>], output: &mut [u8]) {
    in_blocks::<T>(op, sources, output);
}

#[inline(always)]
fn in_blocks<T: Float>(op: ReduceOp, sources: &[Source<'_>], output: &mut [u8]) {
    match op {
        ReduceOp::Sum => blocks::<T>(sources, output, |a, b| a + b),
        ReduceOp::Max => blocks::<T>(sources, output, |a, b| if a > b || a.is_nan() { a } else { b }),
        ReduceOp::Min => blocks::<T>(sources, output, |a, b| if a < b || a.is_nan() { a } else { b }),
    }
}

#[inline(always)]
fn blocks<T: Float>(sources: &[Source<'_>], output: &mut [u8], combine: impl Fn(f32, f32) -> f32 + Copy) {
    let Some((first, rest)) = sources.split_first() else { return };
    let mut accumulator = [0f32; BLOCK];
    let block_bytes = BLOCK * T::BYTES;
    let mut start = 0;
    while start < output.len() {
        let end = (start + block_bytes).min(output.len());
        let accumulator = &mut accumulator[..(end - start) / T::BYTES];
        match first {
            Source::Bytes(bytes) => load::<T>(&bytes[start..end], accumulator),
            Source::Output => load::<T>(&output[start..end], accumulator),
        }
        for source in rest {
            match source {
                Source::Bytes(bytes) => fold::<T>(&bytes[start..end], accumulator, combine),
                Source::Output => fold::<T>(&output[start..end], accumulator, combine),
            }
        }
        store::<T>(accumulator, &mut output[start..end]);
        start = end;
    }
}

#[inline(always)]
fn load<T: Float>(bytes: &[u8], accumulator: &mut [f32]) {
    for (value, element) in accumulator.iter_mut().zip(bytes.chunks_exact(T::BYTES)) {
        *value = T::read(element);
    }
}

#[inline(always)]
fn fold<T: Float>(bytes: &[u8], accumulator: &mut [f32], combine: impl Fn(f32, f32) -> f32) {
    for (value, element) in accumulator.iter_mut().zip(bytes.chunks_exact(T::BYTES)) {
        *value = combine(*value, T::read(element));
    }
}

#[inline(always)]
fn store<T: Float>(accumulator: &[f32], bytes: &mut [u8]) {
    for (value, element) in accumulator.iter().zip(bytes.chunks_exact_mut(T::BYTES)) {
        T::write(*value, element);
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the values compared are exact")]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    /// The definition, one element at a time, with the `half` crate's conversions.
    fn by_definition(dtype: DType, op: ReduceOp, inputs: &[Vec<u8>]) -> Vec<u8> {
        let size = dtype.size();
        let read = |bytes: &[u8]| match dtype {
            DType::F32 => f32::from_le_bytes(bytes.try_into().unwrap()),
            DType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
            _ => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
        };
        let elements = inputs[0].len() / size;
        (0..elements)
            .flat_map(|at| {
                let mut values = inputs.iter().map(|input| read(&input[at * size..(at + 1) * size]));
                let first = values.next().unwrap();
                let value = values.fold(first, |a, b| match op {
                    ReduceOp::Sum => a + b,
                    _ if a.is_nan() || b.is_nan() => f32::NAN,
                    ReduceOp::Max => a.max(b),
                    ReduceOp::Min => a.min(b),
                });
                match dtype {
                    DType::F32 => value.to_le_bytes().to_vec(),
                    DType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                    _ => bf16::from_f32(value).to_le_bytes().to_vec(),
                }
            })
            .collect()
    }

    /// Equal bits, except that any NaN equals any NaN, and zeros of either sign are equal under max and min.
    fn same(dtype: DType, op: ReduceOp, a: &[u8], b: &[u8]) -> bool {
        let read = |bytes: &[u8]| match dtype {
            DType::F32 => f32::from_le_bytes(bytes.try_into().unwrap()),
            DType::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
            _ => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
        };
        a.len() == b.len()
            && a.chunks(dtype.size()).zip(b.chunks(dtype.size())).all(|(a, b)| {
                let both = (read(a), read(b));
                a == b || both.0.is_nan() && both.1.is_nan() || op != ReduceOp::Sum && both.0 == both.1
            })
    }

    proptest! {
        /// Any bits at all: every NaN, infinity and subnormal comes up.
        #[test]
        fn the_vector_code_is_the_definition(
            dtype in proptest::sample::select(&[DType::F32, DType::F16, DType::BF16][..]),
            op in proptest::sample::select(&ReduceOp::ALL[..]),
            ranks in 1usize..6,
            elements in 0usize..3000,
            in_place: bool,
            seed: u64,
        ) {
            let mut random = seed | 1;
            let mut draw = || { random ^= random << 13; random ^= random >> 7; random ^= random << 17; random as u8 };
            let inputs = (0..ranks)
                .map(|_| (0..elements * dtype.size()).map(|_| draw()).collect::<Vec<u8>>())
                .collect::<Vec<_>>();
            let own = seed as usize % ranks;
            let mut output = if in_place { inputs[own].clone() } else { vec![0xaa; elements * dtype.size()] };
            let sources = inputs.iter().enumerate().map(|(rank, input)| {
                if in_place && rank == own { Source::Output } else { Source::Bytes(input) }
            }).collect::<Vec<_>>();
            reduce(dtype, op, &sources, &mut output);
            prop_assert!(same(dtype, op, &output, &by_definition(dtype, op, &inputs)));
        }
    }

    #[test]
    fn every_bf16_plus_zero_is_itself() {
        let all = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let zero = vec![0; all.len()];
        let mut output = vec![0; all.len()];
        reduce(DType::BF16, ReduceOp::Sum, &[Source::Bytes(&all), Source::Bytes(&zero)], &mut output);
        for (input, output) in all.chunks_exact(2).zip(output.chunks_exact(2)) {
            let (input, output) = (
                bf16::from_le_bytes(input.try_into().unwrap()),
                bf16::from_le_bytes(output.try_into().unwrap()),
            );
            assert!(input.is_nan() && output.is_nan() || input == output, "{input:?} became {output:?}");
        }
    }

    #[test]
    fn sums_round_once_and_to_even() {
        // In bf16, 256 + 1 rounds back to 256; in f32 the two ones add up first, and 258 is representable.
        let bytes = |value: f32| bf16::from_f32(value).to_le_bytes();
        let inputs = [bytes(256.0), bytes(1.0), bytes(1.0)];
        let sources = inputs.iter().map(|input| Source::Bytes(input)).collect::<Vec<_>>();
        let mut output = [0; 2];
        reduce(DType::BF16, ReduceOp::Sum, &sources, &mut output);
        assert_eq!(bf16::from_le_bytes(output).to_f32(), 258.0);
        reduce(DType::BF16, ReduceOp::Sum, &sources[..2], &mut output);
        assert_eq!(bf16::from_le_bytes(output).to_f32(), 256.0, "257 lies halfway and goes to the even one");
    }
}
