//! The reduction alone, against its targets; `make bench` looks closer, with criterion.

use std::hint::black_box;
use std::time::Instant;

use halo_ccl::{Arithmetic, DType, ReduceOp, Rounding, Source, reduce};
use serde::Serialize;

use crate::buffer::Buffer;
use crate::line::{processors, tie};
use crate::results::median;

const SMALL: usize = 20 << 10;
const LARGE: usize = 16 << 20;

/// The reduction's figures: medians over the rounds, each of which counts where it was the fastest with the small inputs.
/// The other half of a processor that is lent to a virtual machine may work for somebody else, and half of its vector units
/// with it: a round asks every processor.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// The widest vectors of this processor that the kernel is compiled for.
    pub vectors: &'static str,
    /// Microseconds for 4 inputs of 20 KiB bf16 into 1.
    pub four_small_us: f64,
    /// The same in the round that was the fastest, and in the slowest.
    pub four_small_span_us: (f64, f64),
    /// Microseconds for the same bytes as f32: what loading, adding and storing them takes, with half as many numbers and
    /// nothing to convert or to round.
    pub four_small_f32_us: f64,
    /// Microseconds for 4 inputs of 20 KiB bf16 if all of that lay in the first-level cache: what its instructions take.
    pub four_near_us: f64,
    /// Bandwidth of 2 inputs of 16 MiB bf16 by that of an f32 addition over the same bytes.
    pub two_large_ratio: f64,
}

impl Kernel {
    /// What 4 inputs of 20 KiB are given, in microseconds.
    pub fn small_target(&self) -> Option<f64> {
        match self.vectors {
            "AVX-512" => Some(1.5),
            "AVX2" => Some(2.5),
            _ => None,
        }
    }
}

/// What the two large inputs are to reach.
pub const LARGE_TARGET: f64 = 0.85;

/// A round's figures on one processor.
struct Figures {
    small: f64,
    small_f32: f64,
    near: f64,
    large_ratio: f64,
}

/// Measures everything `rounds` times on every processor.
pub fn measure(rounds: usize) -> Kernel {
    // In a thread of its own, which is tied to one processor after the other.
    let measuring = std::thread::spawn(move || measure_here(rounds));
    let rounds = measuring.join().expect("measuring does not panic");
    let typical = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure)).unwrap_or(0.0);
    let smalls = || rounds.iter().map(|round| round.small);
    Kernel {
        vectors: vectors(),
        four_small_us: typical(|round| round.small),
        four_small_span_us: (smalls().fold(f64::INFINITY, f64::min), smalls().fold(0.0, f64::max)),
        four_small_f32_us: typical(|round| round.small_f32),
        four_near_us: typical(|round| round.near),
        two_large_ratio: typical(|round| round.large_ratio),
    }
}

fn measure_here(rounds: usize) -> Vec<Figures> {
    let small: Vec<Buffer> = (0..4).map(|seed| values(SMALL, seed)).collect();
    let large: Vec<Buffer> = (0..2).map(|seed| values(LARGE, seed)).collect();
    let (mut small_output, mut large_output) = (values(SMALL, 4), values(LARGE, 4));
    // None of them 0: pages that were never written would all be one page of zeros.
    let floats = [vec![1f32; LARGE / 4], vec![2f32; LARGE / 4]];
    let mut float_output = vec![0f32; LARGE / 4];
    let processors = processors();
    let mut on = |processor: &usize| {
        if let Err(error) = tie(*processor) {
            eprintln!("the reduction is not tied to processor {processor}: {error}");
        }
        let ours = typical(8, || sum(DType::BF16, &large, &mut large_output));
        let addition = typical(8, || add(&floats[0], &floats[1], black_box(&mut float_output)));
        Figures {
            small: typical(2000, || sum(DType::BF16, &small, &mut small_output)),
            small_f32: typical(2000, || sum(DType::F32, &small, &mut small_output)),
            near: near(),
            large_ratio: addition / ours,
        }
    };
    let mut round = || {
        let everywhere = processors.iter().map(&mut on);
        everywhere.min_by(|a, b| a.small.total_cmp(&b.small)).expect("there is a processor")
    };
    (0..rounds.max(1)).map(|_| round()).collect()
}

/// By what more bytes cost within the first-level cache, so that neither the call nor the clock counts.
fn near() -> f64 {
    /// Inputs of so many bytes, and the output, lie in 32 KiB.
    const NEAR: [usize; 2] = [1 << 10, 5 << 10];
    const CALLS: usize = 32;
    let [short, long] = NEAR.map(|bytes| {
        let inputs: Vec<Buffer> = (0..4).map(|seed| values(bytes, seed)).collect();
        let mut output = values(bytes, 4);
        typical(200, || (0..CALLS).for_each(|_| sum(DType::BF16, &inputs, &mut output))) / CALLS as f64
    });
    (long - short) / (NEAR[1] - NEAR[0]) as f64 * SMALL as f64
}

/// Values that are no special ones, as bf16 and as f32.
fn values(bytes: usize, seed: u8) -> Buffer {
    let mut buffer = Buffer::new(bytes);
    for (at, value) in buffer.iter_mut().enumerate() {
        *value = if at % 2 == 0 { at as u8 ^ seed } else { 0x3f };
    }
    buffer
}

fn sum(dtype: DType, inputs: &[Buffer], output: &mut Buffer) {
    let sources: [Source<'_>; 4] = std::array::from_fn(|at| Source::Bytes(&inputs[at % inputs.len()]));
    let arithmetic = Arithmetic { dtype, op: ReduceOp::Sum, rounding: Rounding::Once };
    reduce(arithmetic, &sources[..inputs.len()], output);
}

/// With the vectors that any build has: 16 MiB come from memory, which is what it waits for.
fn add(left: &[f32], right: &[f32], output: &mut [f32]) {
    for (output, (left, right)) in output.iter_mut().zip(left.iter().zip(right)) {
        *output = left + right;
    }
}

/// The median of `times` runs in microseconds, after one that does not count.
fn typical(times: usize, mut work: impl FnMut()) -> f64 {
    work();
    let one = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e6
    };
    median((0..times).map(one).collect::<Vec<_>>().into_iter()).unwrap_or(0.0)
}

fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("avx512vl")
        {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "baseline"
}
