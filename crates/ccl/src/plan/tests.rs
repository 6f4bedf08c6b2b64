//! Plans over the simulated fabric: every rank count, seeded delays, tight room, and the right bytes everywhere.

use halo_fabric::Rounding;
use halo_fabric::sim::{SimFabric, Simulation};
use proptest::prelude::*;

use super::*;
use crate::dtype::DType;
use crate::operation::{Kind, Operation};
use crate::reduce::Arithmetic;
use crate::reduce_op::ReduceOp;

mod ring;

const STEPS: usize = 4_000_000;
const SUM: Arithmetic = Arithmetic { dtype: DType::F32, op: ReduceOp::Sum, rounding: Rounding::Once };

fn tag(kind: Kind, bytes: usize) -> Tag {
    let op = matches!(kind, Kind::AllReduce | Kind::ReduceScatter).then_some(ReduceOp::Sum);
    Operation { kind, dtype: DType::F32, op, root: None, epoch: 1, bytes }.tag()
}

/// Runs every rank's plan in a drawn order until all are done; returns the fabrics, for what comes next. A rank that is
/// done has nothing that could still be read, so that its buffers are the caller's again.
fn run<P: Plan>(simulation: &Simulation, ranks: Vec<(SimFabric, P)>) -> Result<Vec<SimFabric>, PlanError> {
    run_beside(simulation, ranks, None)
}

/// The same, and one rank, if told, gets only every sixteenth turn that is drawn for it.
fn run_beside<P: Plan>(
    simulation: &Simulation,
    ranks: Vec<(SimFabric, P)>,
    slow: Option<usize>,
) -> Result<Vec<SimFabric>, PlanError> {
    let mut ranks: Vec<_> = ranks.into_iter().map(|(fabric, plan)| (fabric, Some(plan))).collect();
    for turn in 0..STEPS {
        if ranks.iter().all(|(_, plan)| plan.is_none()) {
            return Ok(ranks.into_iter().map(|(fabric, _)| fabric).collect());
        }
        let next = simulation.next();
        if slow == Some(next) && turn % 16 > 0 {
            continue;
        }
        let (fabric, plan) = &mut ranks[next];
        fabric.progress()?;
        if let Some(running) = plan
            && running.step(fabric)? == Progress::Done
        {
            let peers = others(fabric.rank(), fabric.world());
            assert!(all_read(fabric, peers), "a payload is read after its operation");
            *plan = None;
        }
    }
    panic!("the ranks never finished");
}

fn inputs(world: usize, elements: usize) -> Vec<Vec<u8>> {
    let value = |rank: usize, at: usize| ((rank * 31 + at * 7) % 64) as f32;
    (0..world).map(|rank| (0..elements).flat_map(|at| value(rank, at).to_le_bytes()).collect()).collect()
}

/// Small whole numbers add up exactly, in any order.
fn sum(inputs: &[Vec<u8>]) -> Vec<u8> {
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    (0..inputs[0].len() / 4)
        .flat_map(|at| {
            inputs.iter().map(|input| value(&input[at * 4..at * 4 + 4])).sum::<f32>().to_le_bytes()
        })
        .collect()
}

/// A network with more chunks than slots, so that plans must wait for room: 2 to 9 slots, by the seed. In every other one
/// all memory is registered: what is passed is read as late as can be, what is lent is written, and whoever writes what
/// is not lent at that moment panics.
fn network(world: usize, max_delay: u64, seed: u64) -> Simulation {
    let simulation = Simulation::new(world, 128, 2 + (seed % 8) as usize, max_delay, seed);
    if seed >> 3 & 1 == 0 {
        return simulation;
    }
    // SAFETY: the buffers of a test outlive the run of its plans, and a run that fails is not continued.
    unsafe { simulation.with_registered_memory() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_shot_all_reduce_sums_in_place(world in 2usize..17, elements in 0usize..400, delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let inputs = inputs(world, elements);
        let mut outputs = inputs.clone();
        let bytes = elements * 4;
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let parts = Parts::same(&(0..bytes));
            let plan = Reduce::new(&fabric, tag(Kind::AllReduce, bytes), SUM, None, output, parts, 0);
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        let expected = sum(&inputs);
        prop_assert!(outputs.iter().all(|output| *output == expected));
        let messages = bytes.div_ceil(128).max(1) as u64;
        for (from, to) in (0..world).flat_map(|from| (0..world).map(move |to| (from, to))) {
            let traffic = if from == to { (0, 0) } else { (messages, bytes as u64) };
            prop_assert_eq!(simulation.traffic(from, to), traffic);
        }
    }

    #[test]
    fn doubling_sums_in_the_fewest_messages(world in 2usize..17, elements in 0usize..300, in_place: bool, delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let inputs = inputs(world, elements);
        let mut outputs = if in_place { inputs.clone() } else { vec![vec![0; elements * 4]; world] };
        let bytes = elements * 4;
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let input = (!in_place).then_some(&inputs[rank][..]);
            let plan = Doubling::new(&fabric, tag(Kind::AllReduce, bytes), SUM, input, output, Vec::new());
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        let expected = sum(&inputs);
        prop_assert!(outputs.iter().all(|output| *output == expected));
        for from in 0..world {
            let traffic = (0..world).map(|to| simulation.traffic(from, to));
            let (messages, sent) = traffic.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let step = |distance: usize| (distance.min(world - distance) * bytes).div_ceil(128).max(1) as u64;
            let steps = std::iter::successors(Some(1), |distance| Some(distance * 2)).take_while(|distance| *distance < world);
            prop_assert_eq!(messages, steps.map(step).sum::<u64>());
            prop_assert_eq!(sent, ((world - 1) * bytes) as u64);
        }
    }

    #[test]
    fn reduce_scatter_then_all_gather_is_an_all_reduce(world in 2usize..17, elements in 0usize..700, delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let inputs = inputs(world, elements);
        let mut outputs = inputs.clone();
        let bytes = elements * 4;
        let tag = tag(Kind::AllReduce, bytes);
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let plan = ReduceAndShare::new(&fabric, tag, SUM, None, output);
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        let expected = sum(&inputs);
        prop_assert!(outputs.iter().all(|output| *output == expected));
    }

    #[test]
    fn transfers_put_every_block_in_its_place(world in 2usize..17, block in 0usize..500, root in 0usize..17, delay in 0u64..50, seed: u64) {
        let root = root % world;
        let simulation = network(world, delay, seed);
        let inputs = (0..world).map(|rank| (0..block).map(|at| (at * 3 + rank * 50) as u8).collect::<Vec<_>>()).collect::<Vec<_>>();
        let mut outputs = vec![vec![0; block]; world];
        outputs[root].clone_from(&inputs[root]);
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let (sends, receives) = if rank == root {
                (Parts::same(&(0..block)), Parts::Nobody)
            } else {
                (Parts::Nobody, Parts::Only { rank: root, bytes: block })
            };
            let plan = Transfer::new(&fabric, tag(Kind::Broadcast, block), None, output, sends, receives);
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        prop_assert!(outputs.iter().all(|output| *output == inputs[root]));
    }

    #[test]
    fn a_reduce_gives_the_root_the_sum_and_takes_one_message_a_chunk(world in 2usize..17, elements in 0usize..300, root in 0usize..17, delay in 0u64..50, seed: u64) {
        let root = root % world;
        let simulation = network(world, delay, seed);
        let inputs = inputs(world, elements);
        let bytes = elements * 4;
        let mut outputs = inputs.iter().enumerate().map(|(rank, _)| vec![0; if rank == root { bytes } else { 0 }]).collect::<Vec<_>>();
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let parts = Parts::Only { rank: root, bytes };
            let plan = Reduce::new(&fabric, tag(Kind::AllReduce, bytes), SUM, Some(&inputs[rank]), output, parts, 0);
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        prop_assert_eq!(&outputs[root], &sum(&inputs));
        let messages = bytes.div_ceil(128).max(1) as u64;
        for (from, to) in (0..world).flat_map(|from| (0..world).map(move |to| (from, to))) {
            let used = from != root && to == root;
            prop_assert_eq!(simulation.traffic(from, to), if used { (messages, bytes as u64) } else { (0, 0) });
        }
    }

    #[test]
    fn all_to_all_turns_blocks_about(world in 2usize..17, block in 0usize..300, delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let value = |from: usize, to: usize| vec![(from * 16 + to) as u8; block];
        let inputs = (0..world).map(|from| (0..world).flat_map(|to| value(from, to)).collect::<Vec<_>>()).collect::<Vec<_>>();
        let mut outputs = inputs.clone();
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let parts = Parts::Blocks { block };
            let tag = tag(Kind::AllToAll, block);
            let plan = Transfer::new(&fabric, tag, Some(&inputs[rank]), output, parts, parts);
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        for (rank, output) in outputs.iter().enumerate() {
            let expected = (0..world).flat_map(|from| value(from, rank)).collect::<Vec<_>>();
            prop_assert_eq!(output, &expected);
        }
    }

    /// Every rank sends several messages to every other, all before any receive: no order of them locks the ranks.
    #[test]
    fn an_exchange_of_everything_with_everybody_ends(world in 2usize..9, lengths in proptest::collection::vec(0usize..600, 1..4), delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let data = |from: usize, to: usize, index: usize| vec![(from * 31 + to * 7 + index) as u8; lengths[index]];
        let pairs = |rank: usize| (0..world).filter(move |peer| *peer != rank);
        let outgoing = (0..world).map(|rank| pairs(rank).map(|peer| (0..lengths.len()).map(|index| data(rank, peer, index)).collect::<Vec<_>>()).collect::<Vec<_>>()).collect::<Vec<_>>();
        let mut incoming = (0..world).map(|rank| pairs(rank).map(|_| lengths.iter().map(|length| vec![0; *length]).collect::<Vec<_>>()).collect::<Vec<_>>()).collect::<Vec<_>>();
        let ranks = incoming.iter_mut().zip(&outgoing).enumerate().map(|(rank, (incoming, outgoing))| {
            let fabric = simulation.rank(rank);
            let mut plan = Exchange::new(&fabric);
            for (peer, (incoming, outgoing)) in pairs(rank).zip(incoming.iter_mut().zip(outgoing)) {
                for (incoming, outgoing) in incoming.iter_mut().zip(outgoing) {
                    plan.send(peer, tag(Kind::SendRecv, outgoing.len()), outgoing);
                    plan.receive(peer, tag(Kind::SendRecv, incoming.len()), incoming);
                }
            }
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        for rank in 0..world {
            for (peer, incoming) in pairs(rank).zip(&incoming[rank]) {
                for (index, incoming) in incoming.iter().enumerate() {
                    prop_assert_eq!(incoming, &data(peer, rank, index));
                }
            }
        }
    }
}

/// With more chunks than one loan takes to arrive, those of a block that the receiver does not read with the sender are
/// written straight to their place.
#[test]
fn blocks_go_straight_to_what_is_lent_and_none_beyond_it() {
    // SAFETY: as in `network`.
    let simulation = unsafe { Simulation::new(2, 128, 2, 5, 11).with_registered_memory() };
    let block = 128 * 100;
    let mut outputs = vec![vec![0u8; 2 * block + 64]; 2];
    for (rank, output) in outputs.iter_mut().enumerate() {
        output[rank * block..(rank + 1) * block].fill(rank as u8 + 1);
    }
    let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
        let fabric = simulation.rank(rank);
        let own = rank * block..(rank + 1) * block;
        let (sends, receives) = (Parts::same(&own), Parts::Blocks { block });
        let plan = Transfer::new(&fabric, tag(Kind::AllGather, block), None, output, sends, receives);
        (fabric, plan)
    });
    run(&simulation, ranks.collect()).unwrap();
    let expected = [vec![1; block], vec![2; block], vec![0; 64]].concat();
    assert!(outputs.iter().all(|output| *output == expected));
    for (from, to) in [(0, 1), (1, 0)] {
        assert!(simulation.placed(from, to) > block as u64 / 4, "{}", simulation.placed(from, to));
    }
}

/// Two ranks reduce in place, each with a tag of its own.
fn pair(simulation: &Simulation, tags: [Tag; 2], outputs: &mut [Vec<u8>]) -> Result<(), PlanError> {
    let ranks = outputs.iter_mut().zip(tags).enumerate().map(|(rank, (output, tag))| {
        let fabric = simulation.rank(rank);
        let bytes = output.len();
        let plan = Reduce::new(&fabric, tag, SUM, None, output, Parts::same(&(0..bytes)), 0);
        (fabric, plan)
    });
    run(simulation, ranks.collect()).map(|_| ())
}

#[test]
fn ranks_in_different_operations_notice() {
    let simulation = network(2, 5, 1);
    let (ours, theirs) = (tag(Kind::AllReduce, 8), tag(Kind::AllReduce, 16));
    let error = pair(&simulation, [ours, theirs], &mut [vec![0; 8], vec![0; 16]]).unwrap_err();
    assert!(matches!(error, PlanError::Mismatch { .. }), "{error:?}");
}

#[test]
fn a_lost_rank_ends_the_operation() {
    let simulation = network(2, 5, 1);
    simulation.lose(1);
    let tag = tag(Kind::AllReduce, 8);
    let error = pair(&simulation, [tag, tag], &mut [vec![0; 8], vec![0; 8]]).unwrap_err();
    assert!(matches!(error, PlanError::Fabric(FabricError::PeerLost { peer: 1, .. })), "{error:?}");
}
