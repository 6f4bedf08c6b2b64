//! Transfers and exchanges: every block in its place, and only what must travel travels.

use super::*;

/// What each rank sends and receives, and the memory it does so with.
struct Roles<'a> {
    inputs: &'a [Vec<u8>],
    kind: Kind,
    block: usize,
    sends: &'a dyn Fn(usize) -> Parts,
    receives: &'a dyn Fn(usize) -> Parts,
}

impl Roles<'_> {
    /// Runs the transfer into `outputs`; ranks whose input is empty send from their output.
    fn run(&self, course: Course, simulation: &Simulation, outputs: &mut [Vec<u8>]) {
        let run = course.run(simulation, outputs, |fabric, rank, output| {
            let input = (!self.inputs[rank].is_empty()).then_some(&self.inputs[rank][..]);
            let tag = tag(self.kind, self.block);
            Transfer::new(fabric, tag, input, output, (self.sends)(rank), (self.receives)(rank))
        });
        run.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn broadcast(course in course(), bytes in 0usize..900, root in 0usize..16) {
        let (world, root) = (course.world, root % course.world);
        let data = noise(course.seed, 1, bytes).remove(0);
        let mut outputs = vec![vec![0; bytes]; world];
        outputs[root].clone_from(&data);
        let only_root = Parts::Only { rank: root, bytes };
        let roles = Roles {
            inputs: &vec![Vec::new(); world],
            kind: Kind::Broadcast,
            block: bytes,
            sends: &|rank| if rank == root { Parts::same(&(0..bytes)) } else { Parts::Nobody },
            receives: &|rank| if rank == root { Parts::Nobody } else { only_root },
        };
        let simulation = course.network();
        roles.run(course, &simulation, &mut outputs);
        prop_assert!(outputs.iter().all(|output| *output == data));
        check_traffic(&simulation, world, |from, _| {
            if from == root { (chunks(bytes), bytes as u64) } else { (0, 0) }
        })?;
    }

    #[test]
    fn gather_and_scatter(course in course(), block in 0usize..500, root in 0usize..16, scatters: bool) {
        let (world, root) = (course.world, root % course.world);
        let blocks = noise(course.seed, world, block);
        let whole = blocks.concat();
        let (only_root, all) = (Parts::Only { rank: root, bytes: block }, Parts::Blocks { block });
        let (root_part, others_part) = (|rank| if rank == root { all } else { Parts::Nobody },
            |rank| if rank == root { Parts::Nobody } else { only_root });
        let simulation = course.network();
        if scatters {
            let mut outputs = vec![vec![0; block]; world];
            outputs[root].clone_from(&blocks[root]);
            let mut inputs = vec![Vec::new(); world];
            inputs[root].clone_from(&whole);
            let (sends, receives) = (&root_part, &others_part);
            Roles { inputs: &inputs, kind: Kind::Scatter, block, sends, receives }
                .run(course, &simulation, &mut outputs);
            prop_assert_eq!(outputs, blocks);
        } else {
            let mut outputs = vec![Vec::new(); world];
            outputs[root] = vec![0; world * block];
            outputs[root][root * block..][..block].copy_from_slice(&blocks[root]);
            let (sends, receives) = (&others_part, &root_part);
            Roles { inputs: &blocks, kind: Kind::Gather, block, sends, receives }
                .run(course, &simulation, &mut outputs);
            prop_assert_eq!(&outputs[root], &whole);
        }
        check_traffic(&simulation, world, |from, to| {
            let used = if scatters { from == root } else { to == root };
            if used { (chunks(block), block as u64) } else { (0, 0) }
        })?;
    }

    #[test]
    fn all_gather(course in course(), block in 0usize..500) {
        let world = course.world;
        let blocks = noise(course.seed, world, block);
        let mut outputs = vec![vec![0; world * block]; world];
        for (rank, output) in outputs.iter_mut().enumerate() {
            output[rank * block..][..block].copy_from_slice(&blocks[rank]);
        }
        let roles = Roles {
            inputs: &vec![Vec::new(); world],
            kind: Kind::AllGather,
            block,
            sends: &|rank| Parts::same(&(rank * block..(rank + 1) * block)),
            receives: &|_| Parts::Blocks { block },
        };
        let simulation = course.network();
        roles.run(course, &simulation, &mut outputs);
        prop_assert!(outputs.iter().all(|output| *output == blocks.concat()));
        check_traffic(&simulation, world, |_, _| (chunks(block), block as u64))?;
    }

    #[test]
    fn all_to_all(course in course(), block in 1usize..300) {
        let world = course.world;
        let inputs = noise(course.seed, world, world * block);
        let mut outputs = inputs.clone();
        let all: &dyn Fn(usize) -> Parts = &|_| Parts::Blocks { block };
        let roles = Roles { inputs: &inputs, kind: Kind::AllToAll, block, sends: all, receives: all };
        let simulation = course.network();
        roles.run(course, &simulation, &mut outputs);
        for (rank, output) in outputs.iter().enumerate() {
            let expected = inputs.iter().flat_map(|input| input[rank * block..][..block].to_vec());
            prop_assert_eq!(output, &expected.collect::<Vec<_>>());
        }
        check_traffic(&simulation, world, |_, _| (chunks(block), block as u64))?;
    }

    /// A barrier ends nowhere before everybody has come.
    #[test]
    fn barrier(course in course()) {
        let nothing: &dyn Fn(usize) -> Parts = &|_| Parts::same(&(0..0));
        let mut outputs = vec![Vec::new(); course.world];
        let inputs = outputs.clone();
        let simulation = course.network();
        Roles { inputs: &inputs, kind: Kind::Barrier, block: 0, sends: nothing, receives: nothing }
            .run(course, &simulation, &mut outputs);
        check_traffic(&simulation, course.world, |_, _| (1, 0))?;
    }

    /// Every rank sends several messages to every other, all before any receive: no order of them locks the ranks.
    #[test]
    fn an_exchange_of_everything_with_everybody_ends(
        course in course(), lengths in proptest::collection::vec(0usize..600, 1..4),
    ) {
        let world = course.world;
        let data = |from: usize, to: usize| -> Vec<Vec<u8>> {
            lengths.iter().enumerate()
                .map(|(index, length)| vec![(from * 31 + to * 7 + index) as u8; *length])
                .collect()
        };
        let total: usize = lengths.iter().sum();
        let outgoing: Vec<Vec<_>> = (0..world).map(|from| (0..world).map(|to| data(from, to)).collect()).collect();
        // Of each rank, what comes from every other, in rank order.
        let mut incoming = vec![vec![0; (world - 1) * total]; world];
        let simulation = course.network();
        course.run(&simulation, &mut incoming, |fabric, rank, mut output| {
            let mut plan = Exchange::new(fabric);
            for peer in (0..world).filter(|peer| *peer != rank) {
                for (index, length) in lengths.iter().enumerate() {
                    let (room, rest) = output.split_at_mut(*length);
                    output = rest;
                    plan.send(peer, tag(Kind::SendRecv, *length), &outgoing[rank][peer][index]);
                    plan.receive(peer, tag(Kind::SendRecv, *length), room);
                }
            }
            plan
        }).unwrap();
        for (rank, received) in incoming.iter().enumerate() {
            let others = (0..world).filter(|peer| *peer != rank);
            let expected = others.flat_map(|peer| data(peer, rank).concat()).collect::<Vec<_>>();
            prop_assert_eq!(received, &expected);
        }
        let messages = lengths.iter().map(|length| chunks(*length)).sum();
        check_traffic(&simulation, world, |_, _| (messages, total as u64))?;
    }
}

/// With more chunks than one loan takes to arrive, those of a block that the receiver does not read with the sender are
/// written straight to their place.
#[test]
fn blocks_go_straight_to_what_is_lent_and_none_beyond_it() {
    // SAFETY: as in `Course::network`.
    let simulation = unsafe { Simulation::new(2, SLOT, 2, 5, 11).with_registered_memory() };
    let block = SLOT * 100;
    let mut outputs = vec![vec![0u8; 2 * block + 64]; 2];
    for (rank, output) in outputs.iter_mut().enumerate() {
        output[rank * block..(rank + 1) * block].fill(rank as u8 + 1);
    }
    let run = QUIET.run(&simulation, &mut outputs, |fabric, rank, output| {
        let own = rank * block..(rank + 1) * block;
        let (sends, receives) = (Parts::same(&own), Parts::Blocks { block });
        Transfer::new(fabric, tag(Kind::AllGather, block), None, output, sends, receives)
    });
    run.unwrap();
    let expected = [vec![1; block], vec![2; block], vec![0; 64]].concat();
    assert!(outputs.iter().all(|output| *output == expected));
    for (from, to) in [(0, 1), (1, 0)] {
        assert!(simulation.placed(from, to) > block as u64 / 4, "{}", simulation.placed(from, to));
    }
}
