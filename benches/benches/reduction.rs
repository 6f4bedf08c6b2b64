//! The reduction by type, inputs and size, beside an f32 addition over the same bytes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use halo_ccl::{Arithmetic, DType, ReduceOp, Rounding, Source, definition, reduce};

/// Small values, so that no input is special: floats around one, integers below 61, truth values of either kind.
fn values(dtype: DType, bytes: usize, seed: usize) -> Vec<u8> {
    let is_integer = matches!(dtype, DType::I8 | DType::U8 | DType::I32 | DType::Bool);
    let mut values = vec![0; bytes];
    for (at, element) in values.chunks_exact_mut(dtype.size()).enumerate() {
        let step = ((at + seed) % 61) as f32;
        definition::put(dtype, if is_integer { step } else { 1.0 + step / 64.0 }, element);
    }
    values
}

fn one(criterion: &mut Criterion, dtype: DType, op: ReduceOp, inputs: usize, bytes: usize) {
    let data: Vec<Vec<u8>> = (0..inputs).map(|seed| values(dtype, bytes, seed)).collect();
    let sources: Vec<Source<'_>> = data.iter().map(|input| Source::Bytes(input)).collect();
    let mut output = vec![1; bytes];
    let arithmetic = Arithmetic { dtype, op, rounding: Rounding::Once };
    let mut group = criterion.benchmark_group("reduction");
    // What passes through the processor: every input and the output.
    group.throughput(Throughput::Bytes(((inputs + 1) * bytes) as u64));
    let what = if op == ReduceOp::Sum { String::new() } else { format!(" {op}") };
    let name = BenchmarkId::new(format!("{dtype}{what} x {inputs}"), format!("{} KiB", bytes >> 10));
    group.bench_function(name, |bencher| {
        bencher.iter(|| reduce(arithmetic, black_box(&sources), black_box(&mut output)));
    });
}

fn reductions(criterion: &mut Criterion) {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for inputs in [2, 4] {
            for bytes in [20 << 10, 1 << 20, 16 << 20] {
                one(criterion, dtype, ReduceOp::Sum, inputs, bytes);
            }
        }
    }
}

/// The types that models exchange less often, in the two sizes of the targets.
fn other_types(criterion: &mut Criterion) {
    let floats = [DType::F64, DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz];
    let others = [DType::I8, DType::U8, DType::I32, DType::Bool];
    for dtype in floats.into_iter().chain(others) {
        for (inputs, bytes) in [(4, 20 << 10), (2, 16 << 20)] {
            one(criterion, dtype, ReduceOp::Sum, inputs, bytes);
        }
    }
    for (dtype, op) in
        [(DType::I8, ReduceOp::Avg), (DType::BF16, ReduceOp::Avg), (DType::BF16, ReduceOp::Max)]
    {
        one(criterion, dtype, op, 4, 20 << 10);
    }
}

/// What memory allows: three streams and one addition per element.
fn addition(criterion: &mut Criterion) {
    let bytes = 16 << 20;
    let (left, right) = (vec![1f32; bytes / 4], vec![2f32; bytes / 4]);
    let mut output = vec![0f32; bytes / 4];
    let mut group = criterion.benchmark_group("f32 addition");
    group.throughput(Throughput::Bytes(3 * bytes as u64));
    group.bench_function("16384 KiB", |bencher| {
        bencher.iter(|| {
            let inputs = black_box(&left).iter().zip(black_box(&right));
            for (output, (left, right)) in black_box(&mut output).iter_mut().zip(inputs) {
                *output = left + right;
            }
        });
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    reductions(&mut criterion);
    other_types(&mut criterion);
    addition(&mut criterion);
    criterion.final_summary();
}
