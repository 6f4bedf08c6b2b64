//! Buffers that all ranks allocate together: the same results, read where they lie.

mod common;

use common::{configs, run};
use halo_ccl::{Communicator, DType, Error, FabricError, Input, ReduceOp, TransportChoice};

/// Small whole numbers, other ones in every round.
fn values(rank: usize, round: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7 + rank * 31 + round * 13) % 1000) as f32).collect()
}

fn sums(world: usize, round: usize, count: usize) -> Vec<f32> {
    let all: Vec<_> = (0..world).map(|rank| values(rank, round, count)).collect();
    (0..count).map(|at| all.iter().map(|rank| rank[at]).sum()).collect()
}

fn sent_in_place(communicator: &Communicator) -> u64 {
    communicator.statistics().links.iter().map(|link| link.bytes_sent_in_place).sum()
}

/// Every length beside the chunks and slots; each round writes other numbers into buffers that a peer has just read.
fn everything(mut communicator: Communicator) -> u64 {
    const COUNT: usize = 100_000;
    let (rank, world) = (communicator.rank(), communicator.world());
    let mut input = communicator.allocate(COUNT * 4).unwrap();
    let mut output = communicator.allocate(COUNT * 4 * world).unwrap();
    assert!(input.iter().all(|byte| *byte == 0) && output.len() == COUNT * 4 * world);
    for round in 0..4 {
        for count in [1, 1024, 4097, COUNT] {
            let own = values(rank, round, count);
            let bytes = count * 4;
            input[..bytes].copy_from_slice(bytemuck::cast_slice(&own));
            let source = Input::From(&input[..bytes]);
            communicator.all_reduce(source, &mut output[..bytes], DType::F32, ReduceOp::Sum).unwrap();
            assert_eq!(&output[..bytes], bytemuck::cast_slice::<_, u8>(&sums(world, round, count)));
            communicator.all_reduce(Input::InPlace, &mut input[..bytes], DType::F32, ReduceOp::Sum).unwrap();
            assert_eq!(
                &input[..bytes],
                bytemuck::cast_slice::<_, u8>(&sums(world, round, count)),
                "in place"
            );

            let block = rank * bytes..(rank + 1) * bytes;
            output[block].copy_from_slice(bytemuck::cast_slice(&own));
            communicator.all_gather(Input::InPlace, &mut output[..world * bytes], DType::F32).unwrap();
            let all: Vec<f32> = (0..world).flat_map(|rank| values(rank, round, count)).collect();
            assert_eq!(&output[..world * bytes], bytemuck::cast_slice::<_, u8>(&all));

            let root = round % world;
            input[..bytes].copy_from_slice(bytemuck::cast_slice(&own));
            communicator.broadcast(&mut input[..bytes], DType::F32, root).unwrap();
            assert_eq!(&input[..bytes], bytemuck::cast_slice::<_, u8>(&values(root, round, count)));
        }
    }
    let read = sent_in_place(&communicator);
    drop(output);
    drop(input);
    // Its memory may be where the former one was; nobody takes it for that.
    let mut again = communicator.allocate(COUNT).unwrap();
    again.fill(rank as u8);
    communicator.broadcast(&mut again, DType::U8, world - 1).unwrap();
    assert!(again.iter().all(|byte| *byte == world as u8 - 1));
    communicator.close().unwrap();
    read
}

#[test]
fn shared_buffers_change_no_result_and_are_read_where_they_lie_over_shm() {
    for world in [1, 2, 3, 4] {
        let read = run(&configs(world, TransportChoice::Shm), everything);
        assert!(read.iter().all(|bytes| (*bytes > 0) == (world > 1)), "{read:?}");
    }
}

#[test]
fn shared_buffers_are_ordinary_ones_over_tcp() {
    assert_eq!(run(&configs(2, TransportChoice::Tcp), everything), [0, 0]);
}

#[test]
fn ranks_that_allocate_different_sizes_are_both_named() {
    let errors = run(&configs(2, TransportChoice::Shm), |mut communicator| {
        let bytes = 1000 + communicator.rank();
        communicator.allocate(bytes).unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.contains("1000") && error.contains("1001"), "{error}");
        assert!(error.contains("bytes to allocate") || error.contains("HALO-E0208"), "{error}");
    }
}

#[test]
fn a_rank_that_cannot_allocate_is_named_and_nothing_is_lost() {
    let errors = run(&configs(2, TransportChoice::Shm), |mut communicator| {
        let bytes = if communicator.rank() == 0 { 1 << 60 } else { 4096 };
        let error = communicator.allocate(bytes).unwrap_err();
        assert!(matches!(
            communicator.allocate(0).unwrap_err(),
            Error::Fabric(FabricError::NothingToRegister { .. })
        ));
        communicator.allocate(4096).unwrap().fill(1);
        communicator.barrier().unwrap();
        error.stable_code()
    });
    assert_eq!(errors, ["HALO-E0227", "HALO-E0313"]);
}
