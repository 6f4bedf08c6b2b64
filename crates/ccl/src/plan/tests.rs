//! Plans over the simulated fabric: every rank count, seeded delays, tight room, a slow rank, every type and reduction. The
//! results are those of the definition on every rank, and messages and bytes those of each plan's formula.

use std::collections::VecDeque;

use halo_fabric::Rounding;
use halo_fabric::sim::{SimFabric, Simulation};
use proptest::prelude::*;

use proptest::sample::select;

use super::*;
use crate::definition;
use crate::dtype::DType;
use crate::operation::{Kind, Operation};
use crate::reduce::Arithmetic;
use crate::reduce::tests::reductions;
use crate::reduce_op::ReduceOp;

mod all_reduce;
mod ring;
mod sequence;
mod transfer;

const STEPS: usize = 4_000_000;
const SUM: Arithmetic = Arithmetic { dtype: DType::F32, op: ReduceOp::Sum, rounding: Rounding::Once };
/// Of a simulated slot.
const SLOT: usize = 128;

fn tag(kind: Kind, bytes: usize) -> Tag {
    tag_of(1, kind, bytes)
}

fn tag_of(epoch: u32, kind: Kind, bytes: usize) -> Tag {
    let op = matches!(kind, Kind::AllReduce | Kind::ReduceScatter).then_some(ReduceOp::Sum);
    Operation { kind, dtype: DType::F32, op, root: None, epoch, bytes, members: 0 }.tag()
}

/// How a simulation goes.
#[derive(Debug, Clone, Copy)]
struct Course {
    world: usize,
    /// The longest delay of a message.
    delay: u64,
    /// Gets only every sixteenth turn that is drawn for it; may be no rank of this world.
    slow: usize,
    seed: u64,
}

impl Course {
    /// With more chunks than slots, so that plans must wait for room: 2 to 9 slots, by the seed. In every other one all
    /// memory is registered: what is passed is read as late as can be, what is lent is written, and whoever writes what is
    /// not lent at that moment panics.
    fn network(self) -> Simulation {
        let simulation =
            Simulation::new(self.world, SLOT, 2 + (self.seed % 8) as usize, self.delay, self.seed);
        if self.seed >> 3 & 1 == 0 {
            return simulation;
        }
        // SAFETY: the buffers of a test outlive the run of its plans, and a run that fails is not continued.
        unsafe { simulation.with_registered_memory() }
    }

    /// Runs the plan that `plan` makes of each rank's output, in a drawn order, until all are done. A rank that is done has
    /// nothing that could still be read, so that its buffers are the caller's again.
    fn run<'a, P: Plan>(
        self,
        simulation: &Simulation,
        outputs: &'a mut [Vec<u8>],
        plan: impl Fn(&SimFabric, usize, &'a mut [u8]) -> P,
    ) -> Result<(), PlanError> {
        let single = outputs.iter_mut().map(|output| std::iter::once(output).collect()).collect();
        self.run_all(simulation, single, |fabric, _, output| plan(fabric, fabric.rank(), output)).map(drop)
    }

    /// The same for several operations, whose outputs are those of each rank in their order: a rank begins the next one
    /// when it has done one, whatever the others are in. By how many operations one was ahead of another.
    fn run_all<'a, P: Plan>(
        self,
        simulation: &Simulation,
        outputs: Vec<VecDeque<&'a mut Vec<u8>>>,
        plan: impl Fn(&SimFabric, usize, &'a mut [u8]) -> P,
    ) -> Result<usize, PlanError> {
        let begin = |fabric: &SimFabric, left: &mut VecDeque<&'a mut Vec<u8>>, operation: usize| {
            left.pop_front().map(|output| plan(fabric, operation, output))
        };
        let start = |(rank, mut left): (usize, VecDeque<&'a mut Vec<u8>>)| {
            let fabric = simulation.rank(rank);
            let first = begin(&fabric, &mut left, 0);
            (fabric, left, 0, first)
        };
        let mut ranks: Vec<_> = outputs.into_iter().enumerate().map(start).collect();
        let mut lead = 0;
        for turn in 0..STEPS {
            if ranks.iter().all(|(.., plan)| plan.is_none()) {
                return Ok(lead);
            }
            let next = simulation.next();
            if self.slow == next && turn % 16 > 0 {
                continue;
            }
            let (fabric, left, done, plan) = &mut ranks[next];
            fabric.progress()?;
            if let Some(running) = plan
                && running.step(fabric)? == Progress::Done
            {
                let peers = others(fabric.rank(), fabric.world());
                assert!(all_read(fabric, peers), "a payload is read after its operation");
                *done += 1;
                *plan = begin(fabric, left, *done);
                let done = || ranks.iter().map(|(_, _, done, _)| *done);
                lead = lead.max(done().max().unwrap_or(0) - done().min().unwrap_or(0));
            }
        }
        panic!("the ranks never finished");
    }
}

/// Every number of ranks up to 16, and a slow rank in half of the cases.
fn course() -> impl Strategy<Value = Course> {
    (2usize..17, 0u64..50, 0usize..32, any::<u64>()).prop_map(|(world, delay, slow, seed)| Course {
        world,
        delay,
        slow,
        seed,
    })
}

const QUIET: Course = Course { world: 2, delay: 5, slow: usize::MAX, seed: 1 };

/// Inputs of all ranks, others for each: the order of additions shows.
fn noise(seed: u64, world: usize, bytes: usize) -> Vec<Vec<u8>> {
    (1..=world as u64).map(|rank| definition::noise(seed ^ rank << 40, bytes)).collect()
}

/// Chunks of a run of bytes; an empty one is a message, too.
fn chunks(bytes: usize) -> u64 {
    bytes.div_ceil(SLOT).max(1) as u64
}

/// Compares what every pair of ranks exchanged with messages and bytes by formula.
fn check_traffic(
    simulation: &Simulation,
    world: usize,
    formula: impl Fn(usize, usize) -> (u64, u64),
) -> Result<(), TestCaseError> {
    for (from, to) in (0..world).flat_map(|from| (0..world).map(move |to| (from, to))) {
        let expected = if from == to { (0, 0) } else { formula(from, to) };
        prop_assert_eq!(simulation.traffic(from, to), expected, "from {} to {}", from, to);
    }
    Ok(())
}

/// Two ranks reduce in place, each with a tag of its own.
fn pair(simulation: &Simulation, tags: [Tag; 2], outputs: &mut [Vec<u8>]) -> Result<(), PlanError> {
    QUIET.run(simulation, outputs, |fabric, rank, output| {
        let bytes = output.len();
        Reduce::new(fabric, tags[rank], SUM, None, output, Parts::same(&(0..bytes)), 0)
    })
}

#[test]
fn ranks_in_different_operations_notice() {
    let simulation = QUIET.network();
    let (ours, theirs) = (tag(Kind::AllReduce, 8), tag(Kind::AllReduce, 16));
    let error = pair(&simulation, [ours, theirs], &mut [vec![0; 8], vec![0; 16]]).unwrap_err();
    assert!(matches!(error, PlanError::Mismatch { .. }), "{error:?}");
}

#[test]
fn a_lost_rank_ends_the_operation() {
    let simulation = QUIET.network();
    simulation.lose(1);
    let tag = tag(Kind::AllReduce, 8);
    let error = pair(&simulation, [tag, tag], &mut [vec![0; 8], vec![0; 8]]).unwrap_err();
    assert!(matches!(error, PlanError::Fabric(FabricError::PeerLost { peer: 1, .. })), "{error:?}");
}
