//! What the arenas of two ranks lie in, by the kernel's own account: run in one machine by `pages.rs` of the tests.
//!
//! `pages-check TRANSPORT` runs two ranks in two threads, which reduce until every slot has been used, and prints what halo
//! says of the pages and what the kernel does.

use std::error::Error;
use std::fs;
use std::sync::Barrier;

use halo_ccl::{Communicator, Config, DType, Input, ReduceOp};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// More than a slot, more than once around all slots.
const BYTES: usize = 200 << 10;
const OPERATIONS: usize = 16;

fn main() -> Outcome {
    let transport = std::env::args().nth(1).ok_or("usage: pages-check TRANSPORT")?;
    let used = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| rank(1, &transport, &used));
        rank(0, &transport, &used)?;
        other.join().map_err(|_| "rank 1 ended early")?
    })
}

fn rank(rank: usize, transport: &str, used: &Barrier) -> Outcome {
    let config = Config { transport: transport.parse()?, ..Config::from_env(rank, 2)? };
    let mut communicator = Communicator::connect(&config)?;
    let mut data = vec![0; BYTES];
    for _ in 0..OPERATIONS {
        communicator.all_reduce(Input::InPlace, &mut data, DType::F32, ReduceOp::Sum)?;
    }
    used.wait();
    if rank == 0 {
        println!("{transport}: {}", communicator.arena_pages());
        println!("transparent huge pages: {} KiB", meminfo("ShmemHugePages")?);
        println!(
            "huge pages taken of the pool: {}",
            meminfo("HugePages_Total")? - meminfo("HugePages_Free")?
        );
        println!("pages on nodes 0 and 1: {} {}", on_node(0)?, on_node(1)?);
    }
    used.wait();
    Ok(communicator.close()?)
}

fn meminfo(name: &str) -> Outcome<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("/proc/meminfo has no {name}").into())
}

/// Pages of the arenas that lie on a node, in every mapping.
fn on_node(node: usize) -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/numa_maps")?;
    let arenas = text.lines().filter(|line| line.contains("halo-arena"));
    let counts = arenas
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.strip_prefix(&format!("N{node}="))?.parse::<u64>().ok());
    Ok(counts.sum())
}
