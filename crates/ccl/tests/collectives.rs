//! Communicators as threads over the real links: every collective, size and rank count, and every disagreement.

#![allow(
    clippy::needless_for_each,
    clippy::float_cmp,
    reason = "the values compared are exact, and a chain reads well"
)]

mod common;

use std::time::{Duration, Instant};

use common::{configs, run};
use half::bf16;
use halo_ccl::{
    Algorithm, Communicator, Config, DType, Error, FabricError, Input, Interrupt, PlanTable, ReduceOp,
    Request, Rounding, Rule, TransportChoice, definition,
};

fn floats(rank: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 13 + rank * 5) % 97) as f32 - 30.0).collect()
}

fn bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

const SIZES: [usize; 8] = [0, 1, 2, 1023, 4096, 4097, 40_000, 300_001];

#[test]
fn every_collective_is_right_over_shm_and_tcp_at_any_rank_count_and_size() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        for world in [1, 2, 3, 4] {
            every_size(&configs(world, transport));
        }
    }
}

#[test]
fn every_collective_is_right_over_several_tcp_sockets() {
    for (world, tcp_sockets) in [(2, 2), (3, 3), (2, 8)] {
        let mut configs = configs(world, TransportChoice::Tcp);
        configs.iter_mut().for_each(|config| config.tcp_sockets = tcp_sockets);
        every_size(&configs);
    }
}

fn every_size(configs: &[Config]) {
    run(configs, |mut communicator| {
        for count in SIZES {
            everything(&mut communicator, count);
        }
        communicator.close().unwrap();
    });
}

fn everything(communicator: &mut Communicator, count: usize) {
    let (rank, world) = (communicator.rank(), communicator.world());
    let all = (0..world).map(|rank| floats(rank, count)).collect::<Vec<_>>();
    let fold = |f: fn(f32, f32) -> f32| {
        (0..count).map(|at| all.iter().map(|v| v[at]).reduce(f).unwrap()).collect::<Vec<_>>()
    };
    for (op, expected) in [
        (ReduceOp::Sum, fold(|a, b| a + b)),
        (ReduceOp::Max, fold(f32::max)),
        (ReduceOp::Min, fold(f32::min)),
    ] {
        let mut output = vec![0f32; count];
        let out = bytemuck::cast_slice_mut(&mut output);
        communicator.all_reduce(Input::From(bytes(&all[rank])), out, DType::F32, op).unwrap();
        assert_eq!(output, expected);
        let mut output = all[rank].clone();
        communicator
            .all_reduce(Input::InPlace, bytemuck::cast_slice_mut(&mut output), DType::F32, op)
            .unwrap();
        assert_eq!(output, expected, "in place");
    }
    let mut gathered = vec![0f32; count * world];
    communicator.all_gather(bytes(&all[rank]), bytemuck::cast_slice_mut(&mut gathered), DType::F32).unwrap();
    assert_eq!(gathered, all.concat());

    let long = (0..world).map(|rank| floats(rank + 7, count * world)).collect::<Vec<_>>();
    let mut block = vec![0f32; count];
    let out = bytemuck::cast_slice_mut(&mut block);
    communicator.reduce_scatter(bytes(&long[rank]), out, DType::F32, ReduceOp::Sum).unwrap();
    let expected = (0..count).map(|at| long.iter().map(|v| v[rank * count + at]).sum::<f32>());
    assert_eq!(block, expected.collect::<Vec<_>>());

    for root in 0..world {
        let mut buffer = all[rank].clone();
        communicator.broadcast(bytemuck::cast_slice_mut(&mut buffer), DType::F32, root).unwrap();
        assert_eq!(buffer, all[root]);
        let mut gathered = vec![0f32; count * world];
        let output = (rank == root).then(|| bytemuck::cast_slice_mut(&mut gathered[..]));
        communicator.gather(bytes(&all[rank]), output, DType::F32, root).unwrap();
        assert!(rank != root || gathered == all.concat());
    }
    if world > 1 {
        // Round the ring: even ranks send first, so that nobody waits for himself.
        let (next, previous) = ((rank + 1) % world, (rank + world - 1) % world);
        let mut received = vec![0f32; count];
        if rank > 0 {
            communicator.recv(bytemuck::cast_slice_mut(&mut received), DType::F32, previous).unwrap();
        }
        communicator.send(bytes(&all[rank]), DType::F32, next).unwrap();
        if rank == 0 {
            communicator.recv(bytemuck::cast_slice_mut(&mut received), DType::F32, previous).unwrap();
        }
        assert_eq!(received, all[previous]);
    }
    communicator.barrier().unwrap();
}

#[test]
fn bf16_sums_are_the_same_bits_on_every_rank() {
    let sums = run(&configs(3, TransportChoice::Shm), |mut communicator| {
        let rank = communicator.rank();
        let mut values =
            (0..50_000).map(|at| bf16::from_f32((at * (rank + 1)) as f32 / 7.0)).collect::<Vec<_>>();
        communicator
            .all_reduce(Input::InPlace, bytemuck::cast_slice_mut(&mut values), DType::BF16, ReduceOp::Sum)
            .unwrap();
        values
    });
    assert!(sums.iter().all(|sum| sum == &sums[0]));
    let exact =
        |at: usize| (0..3).map(|rank| bf16::from_f32((at * (rank + 1)) as f32 / 7.0).to_f32()).sum::<f32>();
    assert!((0..50_000).all(|at| sums[0][at] == bf16::from_f32(exact(at))));
}

#[test]
fn every_reduction_of_every_type_is_as_defined_with_either_rounding() {
    for rounding in Rounding::ALL {
        let mut configs = configs(3, TransportChoice::Shm);
        configs.iter_mut().for_each(|config| config.rounding = rounding);
        run(&configs, |mut communicator| {
            for (dtype, op) in DType::ALL.into_iter().flat_map(|dtype| ReduceOp::ALL.map(|op| (dtype, op))) {
                if !op.is_defined_for(dtype) {
                    continue;
                }
                // No whole number of blocks, and more than one slot.
                let bytes = 3 * 5003 * dtype.size();
                let inputs = (1..4).map(|rank| definition::noise(rank, bytes)).collect::<Vec<_>>();
                let expected = definition::reduce(dtype, op, rounding, &inputs);
                let rank = communicator.rank();
                let mut output = inputs[rank].clone();
                communicator.all_reduce(Input::InPlace, &mut output, dtype, op).unwrap();
                assert!(output == expected, "all_reduce of {dtype} {op} {rounding}");
                let mut block = vec![0; bytes / 3];
                communicator.reduce_scatter(&inputs[rank], &mut block, dtype, op).unwrap();
                assert!(block == expected[rank * bytes / 3..][..bytes / 3], "reduce_scatter of {dtype} {op}");
            }
        });
    }
}

#[test]
fn ranks_that_round_differently_do_not_meet() {
    let mut configs = configs(2, TransportChoice::Shm);
    configs[1].rounding = Rounding::Each;
    std::thread::scope(|scope| {
        let ranks = configs.iter().map(|config| scope.spawn(|| Communicator::connect(config)));
        for rank in ranks.collect::<Vec<_>>() {
            let error = rank.join().unwrap().unwrap_err().to_string();
            assert!(["rounding", "once", "each"].iter().all(|word| error.contains(word)), "{error}");
        }
    });
}

/// Two ranks that disagree: what each is told.
fn disagree(work: impl Fn(&mut Communicator) -> Result<(), Error> + Sync) -> Vec<Error> {
    run(&configs(2, TransportChoice::Shm), |mut communicator| {
        let error = work(&mut communicator).unwrap_err();
        let again = communicator.barrier().unwrap_err();
        assert_eq!(again.to_string(), error.to_string(), "a poisoned communicator repeats its error");
        error
    })
}

#[test]
fn other_sizes_types_or_operations_are_errors_that_name_both_sides() {
    let sizes = disagree(|communicator| {
        let mut buffer = vec![0; 8 * (communicator.rank() + 1)];
        communicator.all_reduce(Input::InPlace, &mut buffer, DType::F32, ReduceOp::Sum)
    });
    let types = disagree(|communicator| {
        let dtype = [DType::F16, DType::BF16][communicator.rank()];
        communicator.all_reduce(Input::InPlace, &mut [0; 8], dtype, ReduceOp::Sum)
    });
    let operations = disagree(|communicator| match communicator.rank() {
        0 => communicator.barrier(),
        _ => communicator.broadcast(&mut [0; 4], DType::U8, 0),
    });
    for (errors, words) in [
        (sizes, ["2 x f32", "4 x f32"]),
        (types, ["x f16", "x bf16"]),
        (operations, ["barrier", "broadcast"]),
    ] {
        assert!(errors.iter().any(|error| matches!(error, Error::Mismatch { .. })));
        for error in errors {
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}

#[test]
fn a_rank_that_does_not_take_part_is_named_at_the_deadline() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let mut configs = configs(2, TransportChoice::Shm);
    configs.iter_mut().for_each(|config| config.timeout = DEADLINE);
    let given_up = std::sync::Barrier::new(2);
    let errors = run(&configs, |mut communicator| {
        if communicator.rank() == 1 {
            // Alive and silent until rank 0 has given up.
            given_up.wait();
            // What rank 0 had sent before is enough for the first one.
            return communicator.barrier().and_then(|()| communicator.barrier()).unwrap_err();
        }
        let start = Instant::now();
        let error = communicator.barrier().unwrap_err();
        assert!(start.elapsed() >= DEADLINE);
        given_up.wait();
        error
    });
    assert!(
        matches!(&errors[0], Error::Timeout { waiting_for, .. } if waiting_for.starts_with("1 (")),
        "{errors:?}"
    );
    assert_eq!(errors[0].stable_code(), "HALO-E0302");
    let told = errors[1].to_string();
    assert!(
        ["HALO-E0302: barrier (operation 1) on rank 0", "waited 0.3 s", "rank 1 was in"]
            .iter()
            .all(|words| told.contains(words)),
        "{told}"
    );
}

#[test]
fn refused_arguments_harm_nothing() {
    run(&configs(2, TransportChoice::Shm), |mut communicator| {
        let refused = [
            communicator.all_reduce(Input::From(&[0; 4]), &mut [0; 8], DType::F32, ReduceOp::Sum),
            communicator.all_reduce(Input::InPlace, &mut [0; 3], DType::BF16, ReduceOp::Sum),
            communicator.all_reduce(Input::InPlace, &mut [0; 4], DType::Bool, ReduceOp::Avg),
            communicator.all_gather(&[0; 4], &mut [0; 4], DType::U8),
            communicator.broadcast(&mut [0; 4], DType::U8, 2),
            communicator.send(&[0; 4], DType::U8, 9),
        ];
        assert!(refused.iter().all(Result::is_err));
        communicator.barrier().unwrap();
    });
}

#[test]
fn a_rank_that_closed_is_named_by_who_still_waits() {
    let errors = run(&configs(2, TransportChoice::Tcp), |mut communicator| {
        (communicator.rank() == 0).then(|| communicator.barrier().unwrap_err())
    });
    let error = errors[0].as_ref().unwrap();
    assert!(matches!(error, Error::Fabric(FabricError::PeerLeft { peer: 1, .. })), "{error}");
}

#[test]
fn statistics_count_operations_and_bytes_and_reach_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut configs = configs(2, TransportChoice::Shm);
    for config in &mut configs {
        config.name = "tp:0".to_owned();
        config.stats_file = Some(folder.path().join("{name}.{rank}.json").display().to_string());
    }
    run(&configs, |mut communicator| {
        for _ in 0..5 {
            communicator.all_reduce(Input::InPlace, &mut [0; 64], DType::F32, ReduceOp::Sum).unwrap();
        }
        let statistics = communicator.statistics();
        assert_eq!(statistics.operations.len(), 1);
        let all_reduce = &statistics.operations[0];
        assert_eq!((all_reduce.operation, all_reduce.transport), ("all_reduce", "shm"));
        assert_eq!((all_reduce.count, all_reduce.bytes), (5, 320));
        assert_eq!((statistics.links[0].bytes_sent, statistics.links[0].bytes_received), (320, 320));
        communicator.close().unwrap();
    });
    let text = std::fs::read_to_string(folder.path().join("tp:0.1.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["operations"][0]["count"], 5);
    assert_eq!(written["links"][0]["transport"], "shm");
}

#[test]
fn rooted_and_all_to_all_collectives_are_right() {
    for transport in [TransportChoice::Shm, TransportChoice::Tcp] {
        for world in [1, 2, 3] {
            run(&configs(world, transport), |mut communicator| {
                for count in SIZES {
                    rooted(&mut communicator, count);
                }
                communicator.close().unwrap();
            });
        }
    }
}

fn rooted(communicator: &mut Communicator, count: usize) {
    let (rank, world) = (communicator.rank(), communicator.world());
    let all = (0..world).map(|rank| floats(rank, count)).collect::<Vec<_>>();
    let sum = (0..count).map(|at| all.iter().map(|v| v[at]).sum::<f32>()).collect::<Vec<_>>();
    let long = (0..world).map(|rank| floats(rank, count * world)).collect::<Vec<_>>();
    for (root, from_root) in long.iter().enumerate() {
        let mut reduced = vec![0f32; count];
        let output = (rank == root).then(|| bytemuck::cast_slice_mut(&mut reduced[..]));
        communicator.reduce(bytes(&all[rank]), output, DType::F32, ReduceOp::Sum, root).unwrap();
        assert!(rank != root || reduced == sum);
        let mut block = vec![0f32; count];
        let input = (rank == root).then(|| bytes(from_root));
        communicator.scatter(input, bytemuck::cast_slice_mut(&mut block), DType::F32, root).unwrap();
        assert_eq!(block, from_root[rank * count..(rank + 1) * count]);
    }
    let mut turned = vec![0f32; count * world];
    communicator.all_to_all(bytes(&long[rank]), bytemuck::cast_slice_mut(&mut turned), DType::F32).unwrap();
    assert_eq!(
        turned,
        long.iter().flat_map(|from| from[rank * count..(rank + 1) * count].to_vec()).collect::<Vec<_>>()
    );

    let own = rank * count..(rank + 1) * count;
    let mut gathered = vec![0f32; count * world];
    gathered[own.clone()].copy_from_slice(&all[rank]);
    communicator.all_gather(Input::InPlace, bytemuck::cast_slice_mut(&mut gathered), DType::F32).unwrap();
    assert_eq!(gathered, all.concat(), "in place");
    let mut scattered = long[rank].clone();
    let out = bytemuck::cast_slice_mut(&mut scattered);
    communicator.reduce_scatter(Input::InPlace, out, DType::F32, ReduceOp::Sum).unwrap();
    let expected = own.clone().map(|at| long.iter().map(|v| v[at]).sum::<f32>()).collect::<Vec<_>>();
    assert_eq!(scattered[own], expected, "in place");
}

#[test]
fn a_split_makes_communicators_of_their_own_and_leaves_the_first_one() {
    run(&configs(5, TransportChoice::Tcp), |mut communicator| {
        let rank = communicator.rank();
        // 0, 2, 4 in reverse order; 1 alone; 3 in none.
        let color = match rank {
            3 => None,
            odd if odd % 2 == 1 => Some(1),
            _ => Some(0),
        };
        let part = communicator.split(color, -(rank as i64)).unwrap();
        assert_eq!(part.is_some(), rank != 3);
        if let Some(mut part) = part {
            let (expected_rank, world) = if rank % 2 == 1 { (0, 1) } else { ((4 - rank) / 2, 3) };
            assert_eq!((part.rank(), part.world()), (expected_rank, world));
            let mut sum = [rank as f32];
            let out = bytemuck::cast_slice_mut(&mut sum);
            part.all_reduce(Input::InPlace, out, DType::F32, ReduceOp::Sum).unwrap();
            assert_eq!(sum[0], if rank % 2 == 1 { rank as f32 } else { 6.0 });
            part.close().unwrap();
        }
        let mut sum = [1f32];
        let out = bytemuck::cast_slice_mut(&mut sum);
        communicator.all_reduce(Input::InPlace, out, DType::F32, ReduceOp::Sum).unwrap();
        assert_eq!(sum[0], 5.0);
    });
}

#[test]
fn a_rank_without_a_color_can_have_one_the_next_time() {
    run(&configs(3, TransportChoice::Shm), |mut communicator| {
        let rank = communicator.rank();
        assert_eq!(communicator.split((rank > 0).then_some(7), 0).unwrap().is_some(), rank > 0);
        let mut all = communicator.split(Some(0), 0).unwrap().unwrap();
        let mut sum = [1f32];
        let out = bytemuck::cast_slice_mut(&mut sum);
        all.all_reduce(Input::InPlace, out, DType::F32, ReduceOp::Sum).unwrap();
        assert_eq!(sum[0], 3.0);
    });
}

fn sum(output: &mut [f32]) -> Request<'_> {
    let output = bytemuck::cast_slice_mut(output);
    Request::AllReduce { input: Input::InPlace, output, dtype: DType::F32, op: ReduceOp::Sum }
}

#[test]
fn operations_of_a_queue_end_while_the_caller_does_something_else() {
    run(&configs(2, TransportChoice::Tcp), |mut communicator| {
        let rank = communicator.rank();
        let (mut first, mut second) = (floats(rank, 100_000), vec![rank as f32]);
        let mut queue = communicator.queue();
        let large = queue.start(sum(&mut first)).unwrap();
        let small = queue.start(sum(&mut second)).unwrap();
        while !queue.test(large).unwrap() {
            std::hint::spin_loop();
        }
        queue.wait(small).unwrap();
        // What is not waited for is done when the queue goes.
        let mut third = [1f32];
        queue.start(sum(&mut third)).unwrap();
        drop(queue);
        assert_eq!((second[0], third[0]), (1.0, 2.0));
        let (ours, theirs) = (floats(0, 100_000), floats(1, 100_000));
        assert!(first.iter().zip(ours.iter().zip(&theirs)).all(|(sum, (a, b))| *sum == a + b));
    });
}

#[test]
fn a_group_packs_small_reductions_and_runs_sends_and_receives_at_once() {
    run(&configs(2, TransportChoice::Shm), |mut communicator| {
        let (rank, peer) = (communicator.rank(), 1 - communicator.rank());
        let (mut a, mut b, mut large) = ([rank as f32 + 1.0; 3], [10.0f32 * rank as f32], vec![1f32; 50_000]);
        let sent = floats(rank, 70_000);
        let mut received = vec![0f32; 70_000];
        // Both send first: more than fits the slots, so one after the other would be for ever.
        let requests = [
            Request::Send { data: bytes(&sent), dtype: DType::F32, to: peer },
            sum(&mut a),
            sum(&mut large),
            sum(&mut b),
            Request::Recv { data: bytemuck::cast_slice_mut(&mut received), dtype: DType::F32, from: peer },
        ];
        communicator.group(requests).unwrap();
        assert_eq!((a, b[0], large[49_999]), ([3.0; 3], 10.0, 2.0));
        assert_eq!(received, floats(peer, 70_000));
        let counted = communicator.statistics().operations;
        assert_eq!(counted.iter().find(|one| one.operation == "all_reduce").unwrap().count, 2);

        let refused =
            communicator.group([sum(&mut a), Request::Send { data: &[0; 4], dtype: DType::F32, to: 7 }]);
        assert!(matches!(refused, Err(Error::BadRank { given: 7, .. })), "{refused:?}");
        assert_eq!(a, [3.0; 3]);
        communicator.barrier().unwrap();
    });
}

#[test]
fn every_algorithm_gives_the_same_bits_and_a_ring_those_of_its_order() {
    for world in [2, 3, 4] {
        run(&configs(world, TransportChoice::Shm), |mut communicator| {
            let rank = communicator.rank();
            for count in [0, 1, 100, 9_999, 100_000] {
                let input =
                    (0..count).map(|at| bf16::from_f32((at * (rank + 3)) as f32 / 11.0)).collect::<Vec<_>>();
                let bits = |rank: usize| definition::noise(rank as u64 + 1, 2 * count);
                let around =
                    Algorithm::Ring.first_ranks(world, 2 * count).into_iter().flat_map(|(share, first)| {
                        let ranks = (0..world).map(|at| bits((first + at) % world)[share.clone()].to_vec());
                        definition::reduce(
                            DType::BF16,
                            ReduceOp::Sum,
                            Rounding::Once,
                            &ranks.collect::<Vec<_>>(),
                        )
                    });
                let around = around.collect::<Vec<_>>();
                for (chunk, in_place) in [(16 * 1024, true), (1000, false)] {
                    communicator.force_algorithm(Algorithm::Ring, chunk);
                    let (own, mut output) = (bits(rank), bits(rank));
                    let input = if in_place { Input::InPlace } else { Input::From(&own) };
                    communicator.all_reduce(input, &mut output, DType::BF16, ReduceOp::Sum).unwrap();
                    assert!(output == around, "{world} ranks, {count} elements");
                }
                let mut results = Vec::new();
                for (algorithm, chunk) in
                    Algorithm::ALL.into_iter().flat_map(|one| [(one, 16 * 1024), (one, 1000)])
                {
                    communicator.force_algorithm(algorithm, chunk);
                    let mut output = input.clone();
                    let out = bytemuck::cast_slice_mut(&mut output);
                    communicator.all_reduce(Input::InPlace, out, DType::BF16, ReduceOp::Sum).unwrap();
                    results.push(output);
                }
                // Whole multiples of an eleventh are no sums that f32 holds exactly: the ring's may differ.
                assert!(results[..6].iter().all(|result| result == &results[0]));
                assert_eq!(results[6], results[7]);
            }
        });
    }
}

#[test]
fn a_plan_table_is_agreed_on_and_another_one_is_refused_on_every_rank() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.toml");
    let rule = Rule {
        ranks: 2,
        transport: "shm".to_owned(),
        up_to: None,
        algorithm: Algorithm::Doubling,
        chunk: None,
    };
    std::fs::write(&path, PlanTable::new(vec![rule]).to_text()).unwrap();
    let mut configs = configs(2, TransportChoice::Shm);
    configs[0].plans = Some(path.display().to_string());
    let errors = std::thread::scope(|scope| {
        let ranks = configs.iter().map(|config| scope.spawn(|| Communicator::connect(config).unwrap_err()));
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap().to_string()).collect::<Vec<_>>()
    });
    assert!(errors.iter().all(|error| error.contains("plan table")), "{errors:?}");
    configs[1].plans = Some(path.display().to_string());
    run(&configs, |mut communicator| {
        let mut sum = [1f32];
        let out = bytemuck::cast_slice_mut(&mut sum);
        communicator.all_reduce(Input::InPlace, out, DType::F32, ReduceOp::Sum).unwrap();
        assert_eq!(sum[0], 2.0);
    });
}

#[test]
fn a_chunk_larger_than_a_slot_is_refused_on_every_rank_with_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.toml").display().to_string();
    let rule = Rule {
        ranks: 2,
        transport: "shm".to_owned(),
        up_to: None,
        algorithm: Algorithm::OneShot,
        chunk: Some(8192),
    };
    std::fs::write(&path, PlanTable::new(vec![rule]).to_text()).unwrap();
    let mut configs = configs(2, TransportChoice::Shm);
    for config in &mut configs {
        config.slot_bytes = 4096;
        config.plans = Some(path.clone());
    }
    std::thread::scope(|scope| {
        let ranks: Vec<_> =
            configs.iter().map(|config| scope.spawn(|| Communicator::connect(config).unwrap_err())).collect();
        for rank in ranks {
            let error = rank.join().unwrap();
            assert_eq!(error.stable_code(), "HALO-E0309");
            for named in [path.as_str(), "8192", "4096", "HALO_SLOT_BYTES"] {
                assert!(error.to_string().contains(named), "{error}");
            }
        }
    });
}

#[test]
fn an_interrupted_wait_ends_with_an_error_on_every_rank() {
    let ends = run(&configs(2, TransportChoice::Shm), |mut communicator| {
        communicator.barrier().unwrap();
        let rank = communicator.rank();
        if rank == 0 {
            communicator.interrupt_when(Interrupt::when(|| true));
        }
        let error = communicator.recv(&mut [0; 8], DType::U8, 1 - rank).unwrap_err();
        // Everybody stays until everybody knows.
        let again = communicator.barrier().unwrap_err();
        (error.stable_code(), again.stable_code(), error.to_string())
    });
    assert_eq!((ends[0].0.as_str(), ends[0].1.as_str()), ("HALO-E0312", "HALO-E0312"));
    assert_eq!(ends[1].0, ends[1].1);
    assert!(ends[1].2.contains("interrupted"), "{}", ends[1].2);
}

#[test]
fn a_rank_that_panics_or_is_abandoned_says_why() {
    let told = |end: fn(Communicator)| {
        let ends = run(&configs(2, TransportChoice::Shm), move |mut communicator| {
            communicator.barrier().unwrap();
            if communicator.rank() == 1 {
                return communicator.recv(&mut [0; 8], DType::U8, 0).unwrap_err().to_string();
            }
            end(communicator);
            String::new()
        });
        ends[1].clone()
    };
    let abandoned = told(|communicator| communicator.abandon("the reactor is on fire"));
    assert!(abandoned.contains("the reactor is on fire"), "{abandoned}");
    let panicked = told(|communicator| {
        let panics = std::panic::AssertUnwindSafe(move || {
            let _held = communicator;
            panic!("on purpose");
        });
        std::panic::catch_unwind(panics).unwrap_err();
    });
    assert!(panicked.contains("its program panicked"), "{panicked}");
}

/// By the ring a rank sends to the next one and to nobody else; by the built-in table to everybody.
#[test]
fn a_rule_of_a_plan_table_is_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.toml");
    let rule = |transport: &str| Rule {
        ranks: 3,
        transport: transport.to_owned(),
        up_to: Some(4096),
        algorithm: Algorithm::Ring,
        chunk: None,
    };
    for (rules, rings) in [(vec![rule("shm")], true), (vec![rule("tcp")], false)] {
        std::fs::write(&path, PlanTable::new(rules).to_text()).unwrap();
        let mut configs = configs(3, TransportChoice::Shm);
        configs.iter_mut().for_each(|config| config.plans = Some(path.display().to_string()));
        run(&configs, |mut communicator| {
            let mut sent_to_both = |bytes: usize| {
                let sent = |communicator: &Communicator| {
                    communicator.statistics().links.iter().map(|link| link.bytes_sent).collect::<Vec<_>>()
                };
                let before = sent(&communicator);
                let mut output = vec![0; bytes];
                communicator.all_reduce(Input::InPlace, &mut output, DType::F32, ReduceOp::Sum).unwrap();
                sent(&communicator).iter().zip(before).all(|(after, before)| *after > before)
            };
            assert_eq!(sent_to_both(4096), !rings);
            assert!(sent_to_both(4100), "beyond the rule");
        });
    }
}
