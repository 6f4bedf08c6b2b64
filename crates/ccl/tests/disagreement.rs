//! Ranks that do not do the same: whatever two of them do instead of each other, every rank gets an error before its deadline,
//! at the next operation or when it closes at the latest, and nobody hangs.

mod common;

use std::time::Duration;

use common::{configs, run};
use halo_ccl::{Communicator, DType, Error, Input, ReduceOp, Request, TransportChoice};

/// One operation of a rank, with what it may disagree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    AllReduce { op: ReduceOp, dtype: DType, count: usize },
    Reduce { root: usize },
    AllGather { count: usize },
    ReduceScatter,
    Broadcast { root: usize, count: usize },
    Gather { root: usize },
    Scatter { root: usize },
    AllToAll,
    Send,
    Receive,
    Barrier,
}

const CALLS: [Call; 18] = [
    Call::AllReduce { op: ReduceOp::Sum, dtype: DType::F32, count: 4 },
    Call::AllReduce { op: ReduceOp::Max, dtype: DType::F32, count: 4 },
    Call::AllReduce { op: ReduceOp::Sum, dtype: DType::I32, count: 4 },
    Call::AllReduce { op: ReduceOp::Sum, dtype: DType::F32, count: 40_000 },
    Call::Reduce { root: 0 },
    Call::Reduce { root: 1 },
    Call::AllGather { count: 4 },
    Call::AllGather { count: 40_000 },
    Call::ReduceScatter,
    Call::Broadcast { root: 0, count: 4 },
    Call::Broadcast { root: 1, count: 4 },
    Call::Broadcast { root: 0, count: 8 },
    Call::Gather { root: 0 },
    Call::Scatter { root: 1 },
    Call::AllToAll,
    Call::Send,
    Call::Receive,
    Call::Barrier,
];

impl Call {
    /// As errors name it.
    fn name(self) -> String {
        match self {
            Self::AllReduce { op, dtype, count } => format!("all_reduce of {count} x {dtype} {op}"),
            Self::Reduce { root } => format!("reduce of 4 x f32 sum root {root}"),
            Self::AllGather { count } => format!("all_gather of {count} x f32"),
            Self::ReduceScatter => "reduce_scatter of 4 x f32 sum".to_owned(),
            Self::Broadcast { root, count } => format!("broadcast of {count} x f32 root {root}"),
            Self::Gather { root } => format!("gather of 4 x f32 root {root}"),
            Self::Scatter { root } => format!("scatter of 4 x f32 root {root}"),
            Self::AllToAll => "all_to_all of 4 x f32".to_owned(),
            Self::Send | Self::Receive => "send/recv of 4 x f32".to_owned(),
            Self::Barrier => "barrier".to_owned(),
        }
    }

    /// Whether `rank` sends nothing before it has received something.
    fn only_waits(self, rank: usize) -> bool {
        match self {
            Self::Broadcast { root, .. } | Self::Scatter { root } => rank != root,
            Self::Reduce { root } | Self::Gather { root } => rank == root,
            _ => self == Self::Receive,
        }
    }

    fn make(self, communicator: &mut Communicator) -> Result<(), Error> {
        const FOUR: usize = 16;
        let (rank, world) = (communicator.rank(), communicator.world());
        let mut large = vec![0; world * FOUR];
        match self {
            Self::AllReduce { op, dtype, count } => {
                communicator.all_reduce(Input::InPlace, &mut vec![0; 4 * count], dtype, op)
            }
            Self::Reduce { root } => {
                let output = (rank == root).then_some(&mut large[..FOUR]);
                communicator.reduce(&[0; FOUR], output, DType::F32, ReduceOp::Sum, root)
            }
            Self::AllGather { count } => {
                communicator.all_gather(Input::InPlace, &mut vec![0; 4 * count * world], DType::F32)
            }
            Self::ReduceScatter => {
                communicator.reduce_scatter(Input::InPlace, &mut large, DType::F32, ReduceOp::Sum)
            }
            Self::Broadcast { root, count } => {
                communicator.broadcast(&mut vec![0; 4 * count], DType::F32, root)
            }
            Self::Gather { root } => {
                let output = (rank == root).then_some(&mut large[..]);
                communicator.gather(&[0; FOUR], output, DType::F32, root)
            }
            Self::Scatter { root } => {
                let input = (rank == root).then_some(&large[..]);
                communicator.scatter(input, &mut [0; FOUR], DType::F32, root)
            }
            Self::AllToAll => communicator.all_to_all(&large.clone(), &mut large, DType::F32),
            Self::Send => communicator.send(&[0; FOUR], DType::F32, (rank + 1) % world),
            Self::Receive => communicator.recv(&mut [0; FOUR], DType::F32, (rank + world - 1) % world),
            Self::Barrier => communicator.barrier(),
        }
    }
}

/// Rank 0 makes the one call, all others the other, and then they go on as if nothing had been. The error of each.
fn errors(
    one: Call,
    other: Call,
    world: usize,
    transport: TransportChoice,
    goes_on: bool,
) -> Vec<Option<Error>> {
    let mut configs = configs(world, transport);
    for config in &mut configs {
        config.timeout = Duration::from_secs(1);
    }
    run(&configs, |mut communicator| {
        let call = if communicator.rank() == 0 { one } else { other };
        let mut result = call.make(&mut communicator);
        if goes_on {
            result = result.and_then(|()| communicator.barrier());
            // Those who know leave only when all have had the time to learn it.
            let _ = communicator.barrier();
        }
        result.and(communicator.close()).err()
    })
}

fn every_pair(world: usize, transport: TransportChoice, goes_on: bool) {
    let pairs = CALLS.iter().flat_map(|one| CALLS.iter().map(move |other| (*one, *other)));
    for (one, other) in pairs.filter(|(one, other)| one != other) {
        // With two ranks, these fit each other.
        if world == 2 && matches!((one, other), (Call::Send, Call::Receive) | (Call::Receive, Call::Send)) {
            continue;
        }
        let what = format!("rank 0 in {one:?}, the others in {other:?}, {world} ranks by {transport:?}");
        let errors = errors(one, other, world, transport, goes_on);
        let texts: Vec<String> = errors.iter().flatten().map(ToString::to_string).collect();
        println!("{what}: {texts:?}");
        assert_eq!(texts.len(), world, "{what}: not everybody has an error: {errors:?}");
        let both = |text: &String| text.contains(&one.name()) && text.contains(&other.name());
        let timeout = |error: &Error| matches!(error, Error::Timeout { .. });
        // Two that only wait notice at the deadline.
        let deadlock = one.only_waits(0) && other.only_waits(1);
        assert!(deadlock || !errors.iter().flatten().any(timeout), "{what}: {texts:?}");
        // A send is no operation of all: who has made it is in the next one, and rightly named with that.
        let pairwise = [one, other].iter().any(|call| matches!(call, Call::Send | Call::Receive));
        let naming = texts.iter().filter(|text| both(text)).count();
        let enough = match world {
            2 if deadlock || !pairwise => 2,
            2 => 1,
            // A third rank may hear of the next operation alone.
            _ => usize::from(!pairwise),
        };
        assert!(naming >= enough, "{what}: not both sides are named: {texts:?}");
    }
}

/// One rank's errors of a queue in which the first operation fails: of that one, the one behind it, both again, one that
/// is started then, of a group and of an operation by itself.
fn errors_of_a_queue(mut communicator: Communicator) -> Vec<Option<Error>> {
    let count = 4 * (communicator.rank() + 1);
    let (mut first, mut second, mut third) = (vec![0; 4 * count], [0; 16], [0; 16]);
    let sum =
        |output| Request::AllReduce { input: Input::InPlace, output, dtype: DType::F32, op: ReduceOp::Sum };
    let mut errors = Vec::new();
    let mut queue = communicator.queue();
    // The peer's message may be here already.
    if let (Ok(first), Ok(second)) = (queue.start(sum(&mut first)), queue.start(sum(&mut second))) {
        errors.extend([queue.wait(first), queue.wait(second), queue.wait(first)].map(Result::err));
        errors.extend([queue.test(first), queue.test(second)].map(Result::err));
    }
    errors.push(queue.start(sum(&mut third)).err());
    errors.push(queue.finish().err());
    let data = Request::Send { data: &[0; 4], dtype: DType::F32, to: 1 - communicator.rank() };
    errors.push(communicator.group([data]).err());
    errors.push(communicator.group([]).err());
    errors.push(communicator.barrier().err());
    errors
}

#[test]
fn a_queue_that_failed_answers_with_the_failure_and_never_waits() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        for (rank, errors) in run(&configs(2, transport), errors_of_a_queue).into_iter().enumerate() {
            let texts: Vec<String> = errors.iter().flatten().map(ToString::to_string).collect();
            assert!(texts.len() == errors.len() && errors.len() >= 5, "rank {rank}: {errors:?}");
            assert!(texts.iter().all(|text| *text == texts[0]), "rank {rank}: {texts:?}");
            assert!(["of 4 x f32", "of 8 x f32"].iter().all(|side| texts[0].contains(side)), "{texts:?}");
        }
    }
}

#[test]
fn groups_of_the_same_bytes_in_another_order_are_no_match() {
    let errors = run(&configs(2, TransportChoice::Shm), |mut communicator| {
        let (mut two, mut four) = ([0; 8], [0; 16]);
        let sum = |output| Request::AllReduce {
            input: Input::InPlace,
            output,
            dtype: DType::F32,
            op: ReduceOp::Sum,
        };
        let mut members = [sum(&mut two), sum(&mut four)];
        if communicator.rank() == 1 {
            members.reverse();
        }
        communicator.group(members).and_then(|()| communicator.barrier()).err()
    });
    for error in errors {
        let text = error.expect("every rank notices").to_string();
        assert!(text.matches("all_reduce of 6 x f32 sum, group #").count() == 2, "{text}");
    }
}

#[test]
fn two_ranks_that_go_on_notice() {
    every_pair(2, TransportChoice::Shm, true);
}

#[test]
fn two_ranks_that_close_at_once_notice() {
    every_pair(2, TransportChoice::Tcp, false);
}

#[test]
fn one_of_three_ranks_is_noticed_by_all() {
    every_pair(3, TransportChoice::Shm, true);
}
