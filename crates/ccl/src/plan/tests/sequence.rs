//! Operations one after the other, where no rank waits for another to have ended the one before: slots and credit go from
//! operation to operation, and what comes early must wait.

use super::*;

/// One operation of all ranks, in place.
#[derive(Debug, Clone, Copy)]
enum Doing {
    AllReduce(Algorithm),
    AllGather,
    Broadcast { root: usize },
}

enum Running<'a> {
    Reduce(Reduce<'a>),
    ReduceAndShare(ReduceAndShare<'a>),
    Doubling(Doubling<'a>),
    Ring(Ring<'a>),
    Transfer(Transfer<'a>),
}

impl Plan for Running<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        match self {
            Self::Reduce(plan) => plan.step(fabric),
            Self::ReduceAndShare(plan) => plan.step(fabric),
            Self::Doubling(plan) => plan.step(fabric),
            Self::Ring(plan) => plan.step(fabric),
            Self::Transfer(plan) => plan.step(fabric),
        }
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        others(fabric.rank(), fabric.world()).collect()
    }
}

impl Doing {
    /// What lies in each rank's memory before, and on every rank after it.
    fn memory(self, inputs: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<u8>) {
        match self {
            Self::AllReduce(Algorithm::Ring) => (inputs.to_vec(), ring::expected_of(SUM, inputs)),
            Self::AllReduce(_) => {
                let Arithmetic { dtype, op, rounding } = SUM;
                (inputs.to_vec(), definition::reduce(dtype, op, rounding, inputs))
            }
            Self::AllGather => {
                let own = |rank: usize| {
                    let empty =
                        |other| if other == rank { inputs[rank].clone() } else { vec![0; inputs[0].len()] };
                    (0..inputs.len()).flat_map(empty).collect()
                };
                ((0..inputs.len()).map(own).collect(), inputs.concat())
            }
            Self::Broadcast { root } => (inputs.to_vec(), inputs[root % inputs.len()].clone()),
        }
    }

    fn plan<'a>(self, fabric: &SimFabric, epoch: u32, output: &'a mut [u8]) -> Running<'a> {
        let (rank, world, bytes) = (fabric.rank(), fabric.world(), output.len());
        let summed = tag_of(epoch, Kind::AllReduce, bytes);
        match self {
            Self::AllReduce(Algorithm::OneShot) => {
                let parts = Parts::same(&(0..bytes));
                Running::Reduce(Reduce::new(fabric, summed, SUM, None, output, parts, 0))
            }
            Self::AllReduce(Algorithm::TwoShot) => {
                Running::ReduceAndShare(ReduceAndShare::new(fabric, summed, SUM, None, output))
            }
            Self::AllReduce(Algorithm::Doubling) => {
                Running::Doubling(Doubling::new(fabric, summed, SUM, None, output, Vec::new()))
            }
            Self::AllReduce(Algorithm::Ring) => {
                Running::Ring(Ring::new(fabric, summed, SUM, None, output, SLOT, Vec::new()))
            }
            Self::AllGather => {
                let block = bytes / world;
                let (sends, receives) =
                    (Parts::same(&(rank * block..(rank + 1) * block)), Parts::Blocks { block });
                let tag = tag_of(epoch, Kind::AllGather, block);
                Running::Transfer(Transfer::new(fabric, tag, None, output, sends, receives))
            }
            Self::Broadcast { root } => {
                let root = root % world;
                let (sends, receives) = if rank == root {
                    (Parts::same(&(0..bytes)), Parts::Nobody)
                } else {
                    (Parts::Nobody, Parts::Only { rank: root, bytes })
                };
                let tag = tag_of(epoch, Kind::Broadcast, bytes);
                Running::Transfer(Transfer::new(fabric, tag, None, output, sends, receives))
            }
        }
    }
}

/// Runs all of them, and checks what each has left on every rank. How far one rank was ahead of another.
fn run(course: Course, operations: &[(Doing, usize)]) -> Result<usize, TestCaseError> {
    let memory = operations.iter().enumerate().map(|(at, (doing, elements))| {
        doing.memory(&noise(course.seed ^ (at as u64) << 20, course.world, 4 * elements))
    });
    let (mut outputs, expected): (Vec<_>, Vec<_>) = memory.unzip();
    let mut by_rank: Vec<VecDeque<&mut Vec<u8>>> = (0..course.world).map(|_| VecDeque::new()).collect();
    for operation in &mut outputs {
        for (rank, output) in operation.iter_mut().enumerate() {
            by_rank[rank].push_back(output);
        }
    }
    let plan = |fabric: &SimFabric, at: usize, output| operations[at].0.plan(fabric, at as u32 + 1, output);
    let lead = course.run_all(&course.network(), by_rank, plan).unwrap();
    for (at, (outputs, expected)) in outputs.iter().zip(expected).enumerate() {
        prop_assert!(
            outputs.iter().all(|output| *output == expected),
            "operation {} of {:?}",
            at,
            operations
        );
    }
    Ok(lead)
}

fn doing() -> impl Strategy<Value = Doing> {
    let algorithm = select(&Algorithm::ALL[..]);
    prop_oneof![
        2 => algorithm.prop_map(Doing::AllReduce),
        1 => Just(Doing::AllGather),
        2 => (0usize..16).prop_map(|root| Doing::Broadcast { root }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn operations_follow_each_other_whoever_is_behind(
        course in course(),
        operations in proptest::collection::vec((doing(), 0usize..200), 2..7),
    ) {
        run(course, &operations)?;
    }
}

#[test]
fn a_fast_rank_is_operations_ahead_of_a_slow_one() {
    let operations = [0, 1, 2, 0].map(|root| (Doing::Broadcast { root }, 20));
    let lead = run(Course { world: 4, slow: 3, ..QUIET }, &operations).unwrap();
    assert!(lead >= 2, "{lead} ahead");
}
