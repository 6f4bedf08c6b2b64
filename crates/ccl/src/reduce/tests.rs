//! Every instruction set against the definition, bit by bit.

use halo_fabric::Rounding;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::definition::{self, noise};

/// Every type, operation and rounding that exists.
pub(crate) fn reductions() -> impl Strategy<Value = Arithmetic> {
    (select(&DType::ALL[..]), select(&ReduceOp::ALL[..]), select(&Rounding::ALL[..]))
        .prop_map(|(dtype, op, rounding)| Arithmetic { dtype, op, rounding })
        .prop_filter("defined", |arithmetic| arithmetic.op.is_defined_for(arithmetic.dtype))
}

/// What `set` makes of `inputs`, the input of rank `own` lying in the output if there is such a rank.
fn result(set: InstructionSet, arithmetic: Arithmetic, inputs: &[Vec<u8>], own: Option<usize>) -> Vec<u8> {
    let mut output = own.map_or_else(|| vec![0xa5; inputs[0].len()], |own| inputs[own].clone());
    let source =
        |(rank, input)| if own == Some(rank) { Source::Output } else { Source::Bytes(Vec::as_slice(input)) };
    let sources = inputs.iter().enumerate().map(source).collect::<Vec<_>>();
    reduce_for(set, arithmetic, sources.len(), &sources, &mut output);
    output
}

/// Whether tests/emulated runs this.
fn on_bochs() -> bool {
    std::env::var_os("EMULATED_BY").is_some_and(|emulator| emulator == "bochs")
}

/// Whether the processor's own conversion to f16 rounds 1 + 2^-11, which lies halfway, to the even 1. Bochs 2.7's does not.
fn f16_halves_go_to_even() -> bool {
    half::f16::from_f32(std::hint::black_box(1.0 + 1.0 / 2048.0)) == half::f16::ONE
}

/// Whether the definition is right about `set`. Its f16s are rounded by the processor's own conversion, and if that is
/// wrong, only what is rounded by it, too, is the same, and what is not rounded at all.
pub(super) fn is_comparable(set: InstructionSet, Arithmetic { dtype, op, rounding }: Arithmetic) -> bool {
    let converts = set != InstructionSet::Baseline && op == ReduceOp::Sum && rounding == Rounding::Once;
    let is_input = matches!(op, ReduceOp::Max | ReduceOp::Min);
    dtype != DType::F16 || converts || is_input || f16_halves_go_to_even()
}

#[track_caller]
fn same_as_defined(arithmetic: Arithmetic, inputs: &[Vec<u8>], own: Option<usize>) {
    let expected = definition::reduce(arithmetic.dtype, arithmetic.op, arithmetic.rounding, inputs);
    for set in InstructionSet::available().into_iter().filter(|set| is_comparable(*set, arithmetic)) {
        let output = result(set, arithmetic, inputs, own);
        if let Some(at) = (0..output.len()).find(|at| output[*at] != expected[*at]) {
            let size = arithmetic.dtype.size();
            let element = at / size * size..(at / size + 1) * size;
            panic!(
                "{arithmetic:?} with {set:?}: element {} of {:x?} is {:x?}, not {:x?}",
                at / size,
                inputs.iter().map(|input| &input[element.clone()]).collect::<Vec<_>>(),
                &output[element.clone()],
                &expected[element]
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_instruction_set_computes_what_is_defined(
        arithmetic in reductions(),
        ranks in 1usize..18,
        elements in 0usize..150,
        own in proptest::option::of(0usize..18),
        seed: u64,
    ) {
        let bytes = elements * arithmetic.dtype.size();
        let inputs = (0..ranks).map(|rank| noise(seed ^ (rank as u64 + 1) << 40, bytes)).collect::<Vec<_>>();
        same_as_defined(arithmetic, &inputs, own.map(|own| own % ranks));
    }

    #[test]
    fn a_reduction_in_steps_is_as_defined(
        arithmetic in reductions(),
        ranks in 2usize..18,
        elements in 0usize..150,
        in_place: bool,
        seed: u64,
    ) {
        let bytes = elements * arithmetic.dtype.size();
        let inputs = (0..ranks).map(|rank| noise(seed ^ (rank as u64 + 1) << 40, bytes)).collect::<Vec<_>>();
        let expected = definition::reduce(arithmetic.dtype, arithmetic.op, arithmetic.rounding, &inputs);
        // Steps are rounded by the same code for every set.
        let comparable = is_comparable(InstructionSet::Baseline, arithmetic);
        for set in InstructionSet::available().into_iter().filter(|_| comparable) {
            prop_assert_eq!(in_steps(set, arithmetic, &inputs, in_place), &expected[..], "{:?}", set);
        }
    }
}

/// What `set` makes of `inputs` in steps, one input after the other joining.
fn in_steps(set: InstructionSet, arithmetic: Arithmetic, inputs: &[Vec<u8>], in_place: bool) -> Vec<u8> {
    let bytes = inputs[0].len();
    let (last, middle) = inputs[1..].split_last().expect("two inputs or more");
    let mut so_far = inputs[0].clone();
    for (joined, own) in middle.iter().enumerate() {
        let mut partial = vec![0xa5; bytes * arithmetic.widening()];
        partial::join_with(set, arithmetic, partial_of(arithmetic, joined, &so_far), own, &mut partial);
        so_far = partial;
    }
    let mut output = if in_place { last.clone() } else { vec![0xa5; bytes] };
    let own = if in_place { Source::Output } else { Source::Bytes(last) };
    let so_far = partial_of(arithmetic, middle.len(), &so_far);
    partial::finish_with(set, arithmetic, inputs.len(), so_far, own, &mut output);
    output
}

fn partial_of(arithmetic: Arithmetic, joined: usize, bytes: &[u8]) -> Partial<'_> {
    if joined == 0 || arithmetic.widening() == 1 { Partial::Elements(bytes) } else { Partial::Wide(bytes) }
}

/// Both inputs of all pairs of two lists of encodings.
fn pairs(dtype: DType, left: &[u64], right: &[u64]) -> Vec<Vec<u8>> {
    let bytes = |bits: &u64| bits.to_le_bytes()[..dtype.size()].to_vec();
    let left_first = left.iter().map(|bits| bytes(bits).repeat(right.len())).collect::<Vec<_>>();
    let right_next = right.iter().flat_map(bytes).collect::<Vec<_>>();
    vec![left_first.concat(), right_next.repeat(left.len())]
}

fn all_operations(dtype: DType, inputs: &[Vec<u8>]) {
    for (op, rounding) in
        ReduceOp::ALL.into_iter().flat_map(|op| Rounding::ALL.map(|rounding| (op, rounding)))
    {
        same_as_defined(Arithmetic { dtype, op, rounding }, inputs, None);
    }
}

/// Zeros, smallest and largest subnormals, one, largest numbers, infinities, quiet and signalling NaNs.
const SPECIAL_16: [u64; 20] = [
    0x0000, 0x0001, 0x007f, 0x0080, 0x03ff, 0x0400, 0x3c00, 0x3f80, 0x4049, 0x7bff, 0x7c00, 0x7c01, 0x7e00,
    0x7f7f, 0x7f80, 0x7f81, 0x7fbf, 0x7fc0, 0x7fc1, 0x7fff,
];

fn special_16() -> Vec<u64> {
    SPECIAL_16.iter().flat_map(|bits| [*bits, bits | 0x8000]).collect()
}

#[test]
fn every_bf16_and_f16_with_every_special_one() {
    let all = (0..=0xffff).collect::<Vec<_>>();
    for dtype in [DType::BF16, DType::F16] {
        let sum = Arithmetic { dtype, op: ReduceOp::Sum, rounding: Rounding::Once };
        same_as_defined(sum, &pairs(dtype, &special_16(), &all), None);
        same_as_defined(sum, &pairs(dtype, &all, &special_16()), Some(0));
        all_operations(dtype, &pairs(dtype, &special_16(), &special_16()));
    }
}

#[test]
fn every_pair_of_8_bit_floats() {
    let all = (0..=0xff).collect::<Vec<_>>();
    for dtype in [DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz] {
        all_operations(dtype, &pairs(dtype, &all, &all));
    }
}

#[test]
fn f32_zeros_infinities_nans_and_subnormals() {
    let positive =
        [0, 1, 0x007f_ffff, 0x0080_0000, 0x3f80_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0x7fc0_0001];
    let special = positive.iter().flat_map(|bits| [*bits, bits | 0x8000_0000]).collect::<Vec<_>>();
    all_operations(DType::F32, &pairs(DType::F32, &special, &special));
    let special =
        special.iter().map(|bits| f64::from(f32::from_bits(*bits as u32)).to_bits()).collect::<Vec<_>>();
    all_operations(DType::F64, &pairs(DType::F64, &special, &special));
}

#[test]
fn sums_round_once_and_to_even_or_after_each_step() {
    let one = half::bf16::from_f32(1.0).to_le_bytes().to_vec();
    let inputs = [half::bf16::from_f32(256.0).to_le_bytes().to_vec(), one.clone(), one];
    let sum = |rounding, inputs: &[Vec<u8>]| {
        let arithmetic = Arithmetic { dtype: DType::BF16, op: ReduceOp::Sum, rounding };
        let output = result(InstructionSet::best(), arithmetic, inputs, None);
        half::bf16::from_le_bytes(output.try_into().unwrap()).to_f32() as u32
    };
    assert_eq!(
        sum(Rounding::Once, &inputs[..2]),
        256,
        "257 lies halfway between 256 and 258, and 256 is even"
    );
    assert_eq!(sum(Rounding::Once, &inputs), 258, "in f32 the ones add up");
    assert_eq!(sum(Rounding::Each, &inputs), 256, "in bf16 each of them is lost");
}

#[test]
fn this_processors_instruction_sets_are_found() {
    let available = InstructionSet::available();
    assert_eq!(available[0], InstructionSet::Baseline);
    assert_eq!(InstructionSet::best(), available[available.len() - 1]);
    #[cfg(target_arch = "x86_64")]
    if on_bochs() {
        assert_eq!(InstructionSet::best(), InstructionSet::Avx512, "what the emulation is for");
    }
    assert!(on_bochs() || f16_halves_go_to_even(), "f16 was left out of every comparison");
    println!("compared: {available:?}");
}
