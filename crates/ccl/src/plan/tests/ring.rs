//! The ring over the simulated fabric: the defined bits on every rank, in the ring's own order, and the messages and bytes
//! of the formula on neighbours' links alone.

use super::*;

/// What must come out: each share reduced in the order in which it goes around.
pub(super) fn expected_of(arithmetic: Arithmetic, inputs: &[Vec<u8>]) -> Vec<u8> {
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
        course in course(),
        arithmetic in reductions(),
        elements in 0usize..900,
        chunk in select(vec![64usize, SLOT]),
        in_place: bool,
    ) {
        let (world, simulation) = (course.world, course.network());
        let bytes = elements * arithmetic.dtype.size();
        let inputs = noise(course.seed, world, bytes);
        let mut outputs = if in_place { inputs.clone() } else { vec![vec![0; bytes]; world] };
        course.run(&simulation, &mut outputs, |fabric, rank, output| {
            let input = (!in_place).then_some(&inputs[rank][..]);
            Ring::new(fabric, tag(Kind::AllReduce, bytes), arithmetic, input, output, chunk, Vec::new())
        }).unwrap();
        let expected = expected_of(arithmetic, &inputs);
        for output in &outputs {
            prop_assert_eq!(output, &expected);
        }
        check_traffic(&simulation, world, |from, to| {
            if to == (from + 1) % world { formula(arithmetic, from, world, bytes, chunk) } else { (0, 0) }
        })?;
    }
}

/// With registered memory the results are written straight to their place, and forwarded from there.
#[test]
fn results_go_straight_to_what_is_lent() {
    // SAFETY: as in `Course::network`.
    let simulation = unsafe { Simulation::new(3, SLOT, 2, 5, 11).with_registered_memory() };
    let bytes = 24_000;
    let mut outputs = vec![1f32.to_le_bytes().repeat(bytes / 4); 3];
    let run = QUIET.run(&simulation, &mut outputs, |fabric, _, output| {
        Ring::new(fabric, tag(Kind::AllReduce, bytes), SUM, None, output, SLOT, Vec::new())
    });
    run.unwrap();
    let expected = 3f32.to_le_bytes().repeat(bytes / 4);
    assert!(outputs.iter().all(|output| *output == expected));
    for rank in 0..3 {
        // Half of what is referred to is read by the receiver in the simulation.
        let placed = simulation.placed(rank, (rank + 1) % 3);
        assert!(placed > bytes as u64 / 5, "{placed}");
    }
}

#[test]
fn neighbours_in_different_operations_notice() {
    let simulation = Course { world: 3, ..QUIET }.network();
    let error = QUIET.run(&simulation, &mut vec![vec![0; 800]; 3], |fabric, rank, output| {
        Ring::new(fabric, tag(Kind::AllReduce, 800 + rank / 2), SUM, None, output, SLOT, Vec::new())
    });
    let error = error.unwrap_err();
    assert!(matches!(error, PlanError::Mismatch { .. }), "{error:?}");
}
