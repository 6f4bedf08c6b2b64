//! Reductions in rank order: the defined bits on every rank, whatever overtakes what.

use super::*;

#[test]
fn what_has_arrived_is_reduced_before_the_rest_comes_and_before_ones_own_is_read() {
    // Registered memory, and two of four chunks have room: rank 1 sends those, and then does nothing more.
    let course = Course { seed: 8, ..QUIET };
    let simulation = course.network();
    let bytes = 4 * SLOT;
    let inputs = noise(7, 2, bytes);
    let tag = tag(Kind::AllReduce, bytes);
    let expected = definition::reduce(DType::F32, ReduceOp::Sum, Rounding::Once, &inputs);
    let mut outputs = vec![vec![0xa5; bytes]; 2];
    let [output, other] = &mut outputs[..] else { unreachable!() };
    let (mut zero, mut one) = (simulation.rank(0), simulation.rank(1));
    assert_eq!(one.slots(), 2);
    let plan = |fabric: &SimFabric, output| {
        Reduce::new(fabric, tag, SUM, Some(&inputs[fabric.rank()]), output, Parts::same(&(0..bytes)), 0)
    };
    let (mut ours, mut theirs) = (plan(&zero, output), plan(&one, other));
    for _ in 0..2 {
        assert_eq!(theirs.step(&mut one).unwrap(), Progress::Moved);
    }
    for _ in 0..1000 {
        if simulation.next() == 0 {
            zero.progress().unwrap();
            assert_ne!(ours.step(&mut zero).unwrap(), Progress::Done);
        }
    }
    assert_eq!(zero.unread(1), 2, "somebody has read what rank 0 sent");
    drop(ours);
    assert_eq!(outputs[0][..2 * SLOT], expected[..2 * SLOT]);
    assert_eq!(outputs[0][2 * SLOT..], [0xa5; 2 * SLOT]);
}

/// In place, with registered memory: a result replaces the input that it is made of, while other inputs are still to be read.
#[test]
fn results_of_shares_go_straight_to_what_is_lent() {
    // SAFETY: as in `Course::network`.
    let simulation = unsafe { Simulation::new(3, SLOT, 2, 5, 11).with_registered_memory() };
    let bytes = 24_000;
    let inputs = noise(3, 3, bytes);
    let mut outputs = inputs.clone();
    let run = QUIET.run(&simulation, &mut outputs, |fabric, _, output| {
        ReduceAndShare::new(fabric, tag(Kind::AllReduce, bytes), SUM, None, output)
    });
    run.unwrap();
    let expected = definition::reduce(DType::F32, ReduceOp::Sum, Rounding::Once, &inputs);
    assert!(outputs.iter().all(|output| *output == expected));
    for (from, to) in (0..3).flat_map(|from| others(from, 3).map(move |to| (from, to))) {
        // Half of what is referred to is read by the receiver in the simulation.
        let placed = simulation.placed(from, to);
        assert!(placed > bytes as u64 / 10, "from {from} to {to}: {placed}");
    }
}

/// The arithmetic, the inputs of all ranks, and what comes of them in rank order.
fn case(course: Course, arithmetic: Arithmetic, elements: usize) -> (usize, Vec<Vec<u8>>, Vec<u8>) {
    let bytes = elements * arithmetic.dtype.size();
    let inputs = noise(course.seed, course.world, bytes);
    let Arithmetic { dtype, op, rounding } = arithmetic;
    let expected = definition::reduce(dtype, op, rounding, &inputs);
    (bytes, inputs, expected)
}

fn outputs_for(inputs: &[Vec<u8>], in_place: bool) -> Vec<Vec<u8>> {
    if in_place { inputs.to_vec() } else { vec![vec![0; inputs[0].len()]; inputs.len()] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn one_shot_sends_everybody_everything_once(
        course in course(), arithmetic in reductions(), elements in 0usize..400, in_place: bool,
        chunk in select(vec![64usize, SLOT]),
    ) {
        let (bytes, inputs, expected) = case(course, arithmetic, elements);
        let mut outputs = outputs_for(&inputs, in_place);
        let simulation = course.network();
        course.run(&simulation, &mut outputs, |fabric, rank, output| {
            let input = (!in_place).then_some(&inputs[rank][..]);
            let parts = Parts::same(&(0..bytes));
            let tag = tag(Kind::AllReduce, bytes);
            Reduce::new(fabric, tag, arithmetic, input, output, parts, 0).in_chunks(chunk)
        }).unwrap();
        prop_assert!(outputs.iter().all(|output| *output == expected));
        let messages = bytes.div_ceil(chunk).max(1) as u64;
        check_traffic(&simulation, course.world, |_, _| (messages, bytes as u64))?;
    }

    #[test]
    fn doubling_takes_the_fewest_messages(
        course in course(), arithmetic in reductions(), elements in 0usize..300, in_place: bool,
    ) {
        let (bytes, inputs, expected) = case(course, arithmetic, elements);
        let mut outputs = outputs_for(&inputs, in_place);
        let simulation = course.network();
        course.run(&simulation, &mut outputs, |fabric, rank, output| {
            let input = (!in_place).then_some(&inputs[rank][..]);
            Doubling::new(fabric, tag(Kind::AllReduce, bytes), arithmetic, input, output, Vec::new())
        }).unwrap();
        prop_assert!(outputs.iter().all(|output| *output == expected));
        let world = course.world;
        // After k steps a rank holds 2^k inputs, its own and those of the ranks behind it, and hands them back.
        check_traffic(&simulation, world, |from, to| {
            let distance = (from + world - to) % world;
            if !distance.is_power_of_two() {
                return (0, 0);
            }
            let handed = distance.min(world - distance) * bytes;
            (chunks(handed), handed as u64)
        })?;
    }

    #[test]
    fn two_shot_reduces_a_share_each_and_then_shares_it(
        course in course(), arithmetic in reductions(), elements in 0usize..700, in_place: bool,
    ) {
        let (bytes, inputs, expected) = case(course, arithmetic, elements);
        let mut outputs = outputs_for(&inputs, in_place);
        let simulation = course.network();
        course.run(&simulation, &mut outputs, |fabric, rank, output| {
            let input = (!in_place).then_some(&inputs[rank][..]);
            ReduceAndShare::new(fabric, tag(Kind::AllReduce, bytes), arithmetic, input, output)
        }).unwrap();
        prop_assert!(outputs.iter().all(|output| *output == expected));
        let share = |rank| Parts::shares(bytes, course.world).of(rank).unwrap().len();
        // The peer's share of the input, and the own share of the result.
        check_traffic(&simulation, course.world, |from, to| {
            (chunks(share(to)) + chunks(share(from)), (share(to) + share(from)) as u64)
        })?;
    }

    #[test]
    fn reduce_scatter_sends_everybody_his_block(
        course in course(), arithmetic in reductions(), elements in 0usize..100, in_place: bool,
    ) {
        let world = course.world;
        let (bytes, inputs, expected) = case(course, arithmetic, elements * world);
        let block = bytes / world;
        let mut outputs = if in_place { inputs.clone() } else { vec![vec![0; block]; world] };
        let simulation = course.network();
        course.run(&simulation, &mut outputs, |fabric, rank, output| {
            let input = (!in_place).then_some(&inputs[rank][..]);
            let (parts, result) = (Parts::Blocks { block }, if in_place { rank * block } else { 0 });
            Reduce::new(fabric, tag(Kind::ReduceScatter, block), arithmetic, input, output, parts, result)
        }).unwrap();
        for (rank, output) in outputs.iter().enumerate() {
            let own = if in_place { &output[rank * block..][..block] } else { &output[..] };
            prop_assert_eq!(own, &expected[rank * block..][..block]);
        }
        check_traffic(&simulation, world, |_, _| (chunks(block), block as u64))?;
    }

    #[test]
    fn reduce_sends_the_root_everything_once(
        course in course(), arithmetic in reductions(), elements in 0usize..300, root in 0usize..16, in_place: bool,
    ) {
        let root = root % course.world;
        let (bytes, inputs, expected) = case(course, arithmetic, elements);
        let mut outputs = vec![Vec::new(); course.world];
        outputs[root] = if in_place { inputs[root].clone() } else { vec![0; bytes] };
        let simulation = course.network();
        course.run(&simulation, &mut outputs, |fabric, rank, output| {
            let input = (!(in_place && rank == root)).then_some(&inputs[rank][..]);
            let parts = Parts::Only { rank: root, bytes };
            Reduce::new(fabric, tag(Kind::Reduce, bytes), arithmetic, input, output, parts, 0)
        }).unwrap();
        prop_assert_eq!(&outputs[root], &expected);
        check_traffic(&simulation, course.world, |_, to| {
            if to == root { (chunks(bytes), bytes as u64) } else { (0, 0) }
        })?;
    }
}
