//! Plans over the simulated fabric: every rank count, seeded delays, tight room, and the right bytes everywhere.

use halo_fabric::sim::{SimFabric, Simulation};
use proptest::prelude::*;

use super::*;
use crate::dtype::{DType, ReduceOp};
use crate::operation::{Kind, Operation};

const STEPS: usize = 2_000_000;

fn tag(kind: Kind, bytes: usize) -> Tag {
    let op = matches!(kind, Kind::AllReduce | Kind::ReduceScatter).then_some(ReduceOp::Sum);
    Operation { kind, dtype: DType::F32, op, root: None, epoch: 1, bytes }.tag()
}

/// Runs every rank's plan in a drawn order until all are done; returns the fabrics, for what comes next.
fn run<P: Plan>(simulation: &Simulation, ranks: Vec<(SimFabric, P)>) -> Result<Vec<SimFabric>, PlanError> {
    let mut ranks: Vec<_> = ranks.into_iter().map(|(fabric, plan)| (fabric, Some(plan))).collect();
    for _ in 0..STEPS {
        if ranks.iter().all(|(_, plan)| plan.is_none()) {
            return Ok(ranks.into_iter().map(|(fabric, _)| fabric).collect());
        }
        let (fabric, plan) = &mut ranks[simulation.next()];
        fabric.progress()?;
        if let Some(running) = plan
            && running.step(fabric)? == Progress::Done
        {
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

/// A network with more chunks than slots, so that plans must wait for room: 2 to 9 slots, by the seed.
fn network(world: usize, max_delay: u64, seed: u64) -> Simulation {
    Simulation::new(world, 128, 2 + (seed % 8) as usize, max_delay, seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_shot_all_reduce_sums_in_place(world in 2usize..9, elements in 0usize..400, delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let inputs = inputs(world, elements);
        let mut outputs = inputs.clone();
        let bytes = elements * 4;
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let kind = (DType::F32, ReduceOp::Sum);
            let plan = Reduce::new(&fabric, tag(Kind::AllReduce, bytes), kind, None, output, |_| 0..bytes, 0..bytes);
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
    fn reduce_scatter_then_all_gather_is_an_all_reduce(world in 2usize..9, elements in 0usize..700, delay in 0u64..50, seed: u64) {
        let simulation = network(world, delay, seed);
        let inputs = inputs(world, elements);
        let mut outputs = inputs.clone();
        let bytes = elements * 4;
        let tag = tag(Kind::AllReduce, bytes);
        let part = |rank| share(bytes, world, rank);
        let fabrics = (0..world).map(|rank| simulation.rank(rank)).collect::<Vec<_>>();
        let ranks = outputs.iter_mut().zip(fabrics).enumerate().map(|(rank, (output, fabric))| {
            let kind = (DType::F32, ReduceOp::Sum);
            let plan = Reduce::new(&fabric, tag, kind, None, output, part, part(rank));
            (fabric, plan)
        }).collect();
        let fabrics = run(&simulation, ranks).unwrap();
        let ranks = outputs.iter_mut().zip(fabrics).enumerate().map(|(rank, (output, fabric))| {
            let mut plan = Transfer::new(&fabric, tag, None, output);
            for peer in (0..world).filter(|peer| *peer != rank) {
                plan = plan.send(peer, part(rank)).receive(peer, part(peer));
            }
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        let expected = sum(&inputs);
        prop_assert!(outputs.iter().all(|output| *output == expected));
    }

    #[test]
    fn transfers_put_every_block_in_its_place(world in 2usize..9, block in 0usize..500, root in 0usize..9, delay in 0u64..50, seed: u64) {
        let root = root % world;
        let simulation = network(world, delay, seed);
        let inputs = (0..world).map(|rank| (0..block).map(|at| (at * 3 + rank * 50) as u8).collect::<Vec<_>>()).collect::<Vec<_>>();
        let mut outputs = vec![vec![0; block]; world];
        outputs[root].clone_from(&inputs[root]);
        let ranks = outputs.iter_mut().enumerate().map(|(rank, output)| {
            let fabric = simulation.rank(rank);
            let mut plan = Transfer::new(&fabric, tag(Kind::Broadcast, block), None, output);
            if rank == root {
                for peer in (0..world).filter(|peer| *peer != root) { plan = plan.send(peer, 0..block); }
            } else {
                plan = plan.receive(root, 0..block);
            }
            (fabric, plan)
        }).collect();
        run(&simulation, ranks).unwrap();
        prop_assert!(outputs.iter().all(|output| *output == inputs[root]));
    }

    #[test]
    fn shares_cover_the_buffer_once(bytes in 0usize..5000, world in 1usize..17) {
        let shares = (0..world).map(|rank| share(bytes, world, rank)).collect::<Vec<_>>();
        prop_assert_eq!(shares[0].start, 0);
        prop_assert_eq!(shares[world - 1].end, bytes);
        prop_assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
        prop_assert!(shares.iter().all(|share| share.start % 64 == 0 || share.start == bytes));
    }
}

/// Two ranks reduce in place, each with a tag of its own.
fn pair(simulation: &Simulation, tags: [Tag; 2], outputs: &mut [Vec<u8>]) -> Result<(), PlanError> {
    let ranks = outputs.iter_mut().zip(tags).enumerate().map(|(rank, (output, tag))| {
        let fabric = simulation.rank(rank);
        let bytes = output.len();
        let kind = (DType::F32, ReduceOp::Sum);
        let plan = Reduce::new(&fabric, tag, kind, None, output, |_| 0..bytes, 0..bytes);
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
