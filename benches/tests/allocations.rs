//! No operation allocates once things are warm: every collective, in and out of place, by every algorithm, in queues and
//! groups, by ranks that stay awake.

#[path = "../../crates/ccl/tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{configs, run};
use halo_benches::allocations::{self, Counting};
use halo_ccl::{Algorithm, Communicator, DType, Input, ReduceOp, Request, TransportChoice};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TYPE: DType = DType::BF16;
const SUM: ReduceOp = ReduceOp::Sum;

/// A rank's memory: blocks for every rank, read and written.
struct Memory {
    input: Vec<u8>,
    output: Vec<u8>,
    block: usize,
}

/// One operation, and its name.
type Step = (&'static str, fn(&mut Communicator, &mut Memory));

const STEPS: [Step; 14] = [
    ("all_reduce", |c, m| c.all_reduce(Input::From(&m.input), &mut m.output, TYPE, SUM).unwrap()),
    ("all_reduce in place", |c, m| c.all_reduce(Input::InPlace, &mut m.output, TYPE, SUM).unwrap()),
    ("reduce", |c, m| {
        let output = (c.rank() == 0).then_some(&mut m.output[..]);
        c.reduce(&m.input[..], output, TYPE, SUM, 0).unwrap();
    }),
    ("reduce_scatter", |c, m| {
        let block = m.block;
        c.reduce_scatter(&m.input[..], &mut m.output[..block], TYPE, SUM).unwrap();
    }),
    ("reduce_scatter in place", |c, m| {
        c.reduce_scatter(Input::InPlace, &mut m.output, TYPE, SUM).unwrap();
    }),
    ("all_gather", |c, m| c.all_gather(&m.input[..m.block], &mut m.output, TYPE).unwrap()),
    ("broadcast", |c, m| c.broadcast(&mut m.output, TYPE, 1).unwrap()),
    ("gather", |c, m| {
        let output = (c.rank() == 0).then_some(&mut m.output[..]);
        c.gather(&m.input[..m.block], output, TYPE, 0).unwrap();
    }),
    ("scatter", |c, m| {
        let (block, input) = (m.block, (c.rank() == 0).then_some(&m.input[..]));
        c.scatter(input, &mut m.output[..block], TYPE, 0).unwrap();
    }),
    ("all_to_all", |c, m| c.all_to_all(&m.input, &mut m.output, TYPE).unwrap()),
    ("barrier", |c, _| c.barrier().unwrap()),
    ("send and recv", |c, m| match c.rank() {
        0 => c.send(&m.input, TYPE, 1).unwrap(),
        1 => c.recv(&mut m.output, TYPE, 0).unwrap(),
        _ => {}
    }),
    ("a group", |c, m| {
        let (small, output) = m.output.split_at_mut(m.block);
        let (first, second) = small[..64].split_at_mut(32);
        let all_reduce = |output| Request::AllReduce { input: Input::InPlace, output, dtype: TYPE, op: SUM };
        let barrier = Request::Barrier;
        let (next, previous) = ((c.rank() + 1) % c.world(), (c.rank() + c.world() - 1) % c.world());
        let send = Request::Send { data: &m.input[..m.block], dtype: TYPE, to: next };
        let receive = Request::Recv { data: &mut output[..m.block], dtype: TYPE, from: previous };
        c.group([all_reduce(first), barrier, send, receive, all_reduce(second)]).unwrap();
    }),
    ("a second all_reduce", |c, m| c.all_reduce(Input::From(&m.input), &mut m.output, TYPE, SUM).unwrap()),
];

fn every_step(communicator: &mut Communicator) {
    for block in [64, 20_000] {
        let bytes = block * communicator.world();
        let mut memory = Memory { input: vec![0; bytes], output: vec![0; bytes], block };
        for (name, step) in STEPS {
            for round in 0..12 {
                let before = allocations::made();
                step(communicator, &mut memory);
                let made = allocations::made() - before;
                assert!(round < 2 || made == 0, "{name} of blocks of {block} bytes: {made} allocations");
            }
        }
    }
}

fn in_a_queue(communicator: &mut Communicator) {
    let mut buffers = vec![vec![0u8; 4096]; 60];
    let mut queue = communicator.queue();
    let mut tickets = std::collections::VecDeque::with_capacity(8);
    for (round, output) in buffers.iter_mut().enumerate() {
        let before = allocations::made();
        let request = Request::AllReduce { input: Input::InPlace, output, dtype: TYPE, op: SUM };
        tickets.push_back(queue.start(request).unwrap());
        if tickets.len() == 4 {
            queue.wait(tickets.pop_front().unwrap()).unwrap();
        }
        let made = allocations::made() - before;
        assert!(round < 8 || made == 0, "in a queue, round {round}: {made} allocations");
    }
    queue.finish().unwrap();
}

#[test]
fn no_operation_allocates() {
    for (world, transport) in [
        (2, TransportChoice::Shm),
        (3, TransportChoice::Shm),
        (2, TransportChoice::Tcp),
        (3, TransportChoice::Tcp),
    ] {
        let mut configs = configs(world, transport);
        for config in &mut configs {
            config.sleep_after = Duration::from_secs(60);
        }
        run(&configs, |mut communicator| {
            every_step(&mut communicator);
            in_a_queue(&mut communicator);
            for algorithm in Algorithm::ALL {
                communicator.force_algorithm(algorithm, 16 * 1024);
                every_step(&mut communicator);
            }
            communicator.close().unwrap();
        });
    }
}
