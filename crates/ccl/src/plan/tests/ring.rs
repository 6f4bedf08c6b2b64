//! The ring over the simulated fabric: the defined bits on every rank, in the ring's own order, and the messages and bytes
//! of the formula on neighbours' links alone.

use proptest::sample::select;

use super::*;
use crate::definition;

/// Bytes that look random; every encoding comes up.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = seed | 1;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    };
    (0..bytes).map(|_| draw()).collect()
}

fn arithmetic() -> impl Strategy<Value = Arithmetic> {
    (select(&DType::ALL[..]), select(&ReduceOp::ALL[..]), select(&Rounding::ALL[..]))
        .prop_map(|(dtype, op, rounding)| Arithmetic { dtype, op, rounding })
        .prop_filter("defined", |arithmetic| arithmetic.op.is_defined_for(arithmetic.dtype))
}

/// What must come out: each share reduced in the order in which it goes around.
fn expected_of(arithmetic: Arithmetic, inputs: &[Vec<u8>]) -> Vec<u8> {
    let (world, bytes) = (inputs.len(), inputs[0].len());
    let mut expected = Vec::new();
    for (share, first) in Algorithm::Ring.first_ranks(world, bytes) {
        let around: Vec<_> =
            (0..world).map(|at| inputs[(first + at) % world][share.clone()].to_vec()).collect();
        expected.extend(definition::reduce(arithmetic.dtype, arithmetic.op, arithmetic.rounding, &around));
    }
    expected
}

/// Messages and bytes from a rank to the next one, by formula.
fn formula(arithmetic: Arithmetic, rank: usize, world: usize, bytes: usize, chunk: usize) -> (u64, u64) {
    let share = |rank: usize| Parts::shares(bytes, world).of(rank % world).unwrap().len();
    let chunks = share(0).div_ceil(chunk / arithmetic.widening()).max(1);
    // Its own input of the share behind it, the partial results of all but that and its own, and all but the next one's.
    let input = share(rank + world - 1);
    let partial: usize = (1..world - 1).map(|step| share(rank + 2 * world - 1 - step)).sum();
    let results = bytes - share(rank + 1);
    let sent = input + arithmetic.widening() * partial + results;
    ((2 * (world - 1) * chunks) as u64, sent as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_ring_reduces_in_its_order_over_neighbours_links_alone(
        arithmetic in arithmetic(),
        world in 2usize..17,
        elements in 0usize..900,
        chunk in select(vec![64usize, 128]),
        in_place: bool,
        slow in proptest::option::of(0usize..17),
        delay in 0u64..50,
        seed: u64,
    ) {
        let simulation = network(world, delay, seed);
        let bytes = elements * arithmetic.dtype.size();
        let inputs = (0..world).map(|rank| noise(seed ^ (rank as u64 + 1) << 40, bytes)).collect::<Vec<_>>();
        let mut outputs = if in_place { inputs.clone() } else { vec![vec![0; bytes]; world] };
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let input = (!in_place).then_some(&inputs[rank][..]);
            let tag = tag(Kind::AllReduce, bytes);
            let plan = Ring::new(&fabric, tag, arithmetic, input, output, chunk, Vec::new());
            (fabric, plan)
        }).collect();
        run_beside(&simulation, ranks, slow.filter(|slow| *slow < world)).unwrap();
        let expected = expected_of(arithmetic, &inputs);
        for output in &outputs {
            prop_assert_eq!(output, &expected);
        }
        for (from, to) in (0..world).flat_map(|from| (0..world).map(move |to| (from, to))) {
            let neighbours = to == (from + 1) % world;
            let traffic = if neighbours { formula(arithmetic, from, world, bytes, chunk) } else { (0, 0) };
            prop_assert_eq!(simulation.traffic(from, to), traffic);
        }
    }
}

/// With registered memory the results are written straight to their place, and forwarded from there.
#[test]
fn results_go_straight_to_what_is_lent() {
    // SAFETY: as in `network`.
    let simulation = unsafe { Simulation::new(3, 128, 2, 5, 11).with_registered_memory() };
    let inputs = inputs(3, 6000);
    let mut outputs = inputs.clone();
    let bytes = outputs[0].len();
    let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
        let fabric = simulation.rank(rank);
        let tag = tag(Kind::AllReduce, bytes);
        let plan = Ring::new(&fabric, tag, SUM, None, output, 128, Vec::new());
        (fabric, plan)
    });
    run(&simulation, ranks.collect()).unwrap();
    let expected = sum(&inputs);
    assert!(outputs.iter().all(|output| *output == expected));
    for rank in 0..3 {
        // Half of what is referred to is read by the receiver in the simulation.
        let placed = simulation.placed(rank, (rank + 1) % 3);
        assert!(placed > bytes as u64 / 5, "{placed}");
    }
}

#[test]
fn neighbours_in_different_operations_notice() {
    let simulation = network(3, 5, 1);
    let mut outputs = vec![vec![0; 800]; 3];
    let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
        let fabric = simulation.rank(rank);
        let tag = tag(Kind::AllReduce, 800 + rank / 2);
        let plan = Ring::new(&fabric, tag, SUM, None, output, 128, Vec::new());
        (fabric, plan)
    });
    let error = run(&simulation, ranks.collect()).unwrap_err();
    assert!(matches!(error, PlanError::Mismatch { .. }), "{error:?}");
}
