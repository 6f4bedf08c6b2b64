//! Every reduction of every type, at every number of ranks up to 16, in place and out of place, at addresses that are no
//! multiple of anything; and several communicators that run at the same time.

mod common;

use common::{configs, run};
use halo_ccl::{Communicator, DType, Input, ReduceOp, Rounding, TransportChoice, definition};

/// Elements of a rank's block: few, so that all of them can be tried, and no whole number of vectors.
const ELEMENTS: usize = 37;

/// Bytes at an address that is one more than a multiple of 64, or two, and so on.
struct Shifted {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Shifted {
    fn new(bytes: &[u8], shift: usize) -> Self {
        let mut memory = vec![0; bytes.len() + 128];
        let start = memory.as_ptr().align_offset(64) + shift % 64;
        memory[start..start + bytes.len()].copy_from_slice(bytes);
        Self { memory, start, bytes: bytes.len() }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

fn every_reduction(communicator: &mut Communicator) {
    let (rank, world) = (communicator.rank(), communicator.world());
    let kinds = DType::ALL.into_iter().flat_map(|dtype| ReduceOp::ALL.map(|op| (dtype, op)));
    for (at, (dtype, op)) in kinds.filter(|(dtype, op)| op.is_defined_for(*dtype)).enumerate() {
        let (block, root) = (ELEMENTS * dtype.size(), at % world);
        let inputs: Vec<_> =
            (1..=world as u64).map(|rank| definition::noise(rank * 99 + at as u64, world * block)).collect();
        // One rank's input is its result, down to the bits of a NaN; what is true is 1 in every result.
        let truth = |byte: &u8| if dtype == DType::Bool { u8::from(*byte != 0) } else { *byte };
        let alone = || inputs[0].iter().map(truth).collect();
        let expected =
            if world == 1 { alone() } else { definition::reduce(dtype, op, Rounding::Once, &inputs) };
        let own = rank * block..(rank + 1) * block;
        let mut input = Shifted::new(&inputs[rank], at + 1);
        let empty = |bytes: usize| Shifted::new(&vec![0; bytes], at + 2);
        let what = format!("{dtype} {op} of {world} ranks");

        let mut output = empty(expected.len());
        communicator.all_reduce(Input::From(input.get()), output.get(), dtype, op).unwrap();
        assert!(output.get() == expected, "all_reduce, {what}");
        let mut output = Shifted::new(&inputs[rank], at + 3);
        communicator.all_reduce(Input::InPlace, output.get(), dtype, op).unwrap();
        assert!(output.get() == expected, "all_reduce in place, {what}");

        let mut output = empty(block);
        communicator.reduce_scatter(&*input.get(), output.get(), dtype, op).unwrap();
        assert!(output.get() == &expected[own.clone()], "reduce_scatter, {what}");
        let mut output = Shifted::new(&inputs[rank], at + 4);
        communicator.reduce_scatter(Input::InPlace, output.get(), dtype, op).unwrap();
        assert!(output.get()[own.clone()] == expected[own.clone()], "reduce_scatter in place, {what}");

        let mut output = empty(expected.len());
        let room = (rank == root).then(|| output.get());
        communicator.reduce(&*input.get(), room, dtype, op, root).unwrap();
        assert!(rank != root || output.get() == expected, "reduce, {what}");
        let mut output = Shifted::new(&inputs[rank], at + 5);
        if rank == root {
            communicator.reduce(Input::InPlace, Some(output.get()), dtype, op, root).unwrap();
            assert!(output.get() == expected, "reduce in place, {what}");
        } else {
            communicator.reduce(&*input.get(), None, dtype, op, root).unwrap();
        }

        let mut gathered = empty(world * block);
        communicator.all_gather(&inputs[rank][..block], gathered.get(), dtype).unwrap();
        let blocks: Vec<u8> = inputs.iter().flat_map(|input| input[..block].to_vec()).collect();
        assert!(gathered.get() == blocks, "all_gather, {dtype}");
        let mut turned = empty(world * block);
        communicator.all_to_all(input.get(), turned.get(), dtype).unwrap();
        let blocks: Vec<u8> = inputs.iter().flat_map(|input| input[own.clone()].to_vec()).collect();
        assert!(turned.get() == blocks, "all_to_all, {dtype}");
    }
}

#[test]
fn every_reduction_of_every_type_over_shm_at_1_to_16_ranks() {
    for world in 1..=16 {
        run(&configs(world, TransportChoice::Shm), |mut communicator| {
            every_reduction(&mut communicator);
            communicator.close().unwrap();
        });
    }
}

#[test]
fn every_reduction_of_every_type_over_tcp() {
    for world in [2, 3, 5] {
        run(&configs(world, TransportChoice::Tcp), |mut communicator| {
            every_reduction(&mut communicator);
            communicator.close().unwrap();
        });
    }
}

/// Three communicators of the same ranks, each driven by a thread of its own, and one more that was split off.
#[test]
fn several_communicators_run_at_the_same_time() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        std::thread::scope(|scope| {
            for communicators in 1..=3u32 {
                let configs = configs(2, transport);
                scope.spawn(move || {
                    run(&configs, |mut first| {
                        let mut part = first.split(Some(0), 0).unwrap().unwrap();
                        for round in 0..200u32 {
                            let value = (first.rank() as u32 + 1) * communicators * round;
                            let mut sum = vec![value; 500 + round as usize];
                            let bytes = bytemuck::cast_slice_mut(&mut sum);
                            let communicator = if round % 3 == 0 { &mut part } else { &mut first };
                            communicator
                                .all_reduce(Input::InPlace, bytes, DType::U32, ReduceOp::Sum)
                                .unwrap();
                            assert!(sum.iter().all(|sum| *sum == 3 * communicators * round));
                        }
                    });
                });
            }
        });
    }
}
