//! The reduction by type, inputs and size, beside an f32 addition over the same bytes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::{bf16, f16};
use halo_ccl::{Arithmetic, DType, ReduceOp, Rounding, Source, reduce};

/// f32, f16 or bf16 values around one, so that no input is special.
fn values(dtype: DType, bytes: usize, seed: usize) -> Vec<u8> {
    let value = |at: usize| 1.0 + ((at + seed) % 61) as f32 / 64.0;
    let elements = 0..bytes / dtype.size();
    match dtype {
        DType::F32 => elements.flat_map(|at| value(at).to_le_bytes()).collect(),
        DType::F16 => elements.flat_map(|at| f16::from_f32(value(at)).to_le_bytes()).collect(),
        DType::BF16 => elements.flat_map(|at| bf16::from_f32(value(at)).to_le_bytes()).collect(),
        _ => unreachable!("only floats are measured"),
    }
}

fn one(criterion: &mut Criterion, dtype: DType, inputs: usize, bytes: usize) {
    let data: Vec<Vec<u8>> = (0..inputs).map(|seed| values(dtype, bytes, seed)).collect();
    let sources: Vec<Source<'_>> = data.iter().map(|input| Source::Bytes(input)).collect();
    let mut output = vec![1; bytes];
    let arithmetic = Arithmetic { dtype, op: ReduceOp::Sum, rounding: Rounding::Once };
    let mut group = criterion.benchmark_group("reduction");
    // What passes through the processor: every input and the output.
    group.throughput(Throughput::Bytes(((inputs + 1) * bytes) as u64));
    let name = BenchmarkId::new(format!("{dtype} x {inputs}"), format!("{} KiB", bytes >> 10));
    group.bench_function(name, |bencher| {
        bencher.iter(|| reduce(arithmetic, black_box(&sources), black_box(&mut output)));
    });
}

fn reductions(criterion: &mut Criterion) {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for inputs in [2, 4] {
            for bytes in [20 << 10, 1 << 20, 16 << 20] {
                one(criterion, dtype, inputs, bytes);
            }
        }
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
    addition(&mut criterion);
    criterion.final_summary();
}
