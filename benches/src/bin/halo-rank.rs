//! One rank of halo's all-reduce, measured as every peer is; it also counts what the hot path must not do.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use halo_benches::allocations::{self, Counting};
use halo_benches::buffer::Buffer;
use halo_benches::line::{Line, Work, pin};
use halo_ccl::{Communicator, Config, DType, Error, Input, ReduceOp, TransportChoice};

/// One rank of a bf16 sum; rank 0 prints one line of JSON per size.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    rank: usize,
    #[arg(long)]
    world: usize,
    #[arg(long, value_name = "HOST:PORT")]
    rendezvous: String,
    /// auto, rdma, tcp or shm
    #[arg(long)]
    transport: String,
    /// Print `begin` and `end` around the timed operations, for who traces this process
    #[arg(long)]
    marks: bool,
    #[arg(value_name = "BYTES:ITERATIONS")]
    work: Vec<Work>,
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    pin(arguments.rank);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error[{}]: {error}\n  help: {}",
                error.stable_code(),
                error.hint().unwrap_or_default()
            );
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut config = Config::from_env(arguments.rank, arguments.world)?;
    config.rendezvous.clone_from(&arguments.rendezvous);
    config.transport = arguments.transport.parse::<TransportChoice>()?;
    let mut communicator = Communicator::connect(&config)?;
    if arguments.rank == 0 {
        say(&format!("{{\"arena_bytes\":{}}}", communicator.arena_bytes()));
    }
    for work in &arguments.work {
        let line = measure(&mut communicator, *work, arguments.marks)?;
        if arguments.rank == 0 {
            say(&serde_json::to_string(&line).expect("a line is plain data"));
        }
    }
    communicator.close()
}

fn measure(communicator: &mut Communicator, work: Work, marks: bool) -> Result<Line, Error> {
    let (input, mut output) = (Buffer::new(work.bytes), Buffer::new(work.bytes));
    let mut once = |communicator: &mut Communicator| {
        communicator.all_reduce(Input::From(&input), &mut output, DType::BF16, ReduceOp::Sum)
    };
    for _ in 0..work.warmup() {
        once(communicator)?;
    }
    let mut samples = Vec::with_capacity(work.iterations);
    communicator.barrier()?;
    if marks {
        say("begin");
    }
    let before = allocations::made();
    for _ in 0..work.iterations {
        let start = Instant::now();
        once(communicator)?;
        samples.push(start.elapsed());
    }
    let allocations = allocations::made() - before;
    if marks {
        say("end");
    }
    let (slowest, allocations) = together(communicator, &samples, allocations)?;
    Ok(Line { allocations: Some(allocations), ..Line::of(work.bytes, "bf16", &slowest) })
}

/// For every operation the longest time of any rank, and all ranks' allocations.
fn together(
    communicator: &mut Communicator,
    samples: &[Duration],
    allocations: u64,
) -> Result<(Vec<Duration>, u64), Error> {
    let nanoseconds = samples.iter().map(|sample| sample.as_nanos() as u64);
    let own: Vec<u8> = nanoseconds.chain([allocations]).flat_map(u64::to_le_bytes).collect();
    let mut all = vec![0; own.len() * communicator.world()];
    communicator.all_gather(&own, &mut all, DType::U8)?;
    let word =
        |rank: &[u8], at: usize| u64::from_le_bytes(rank[at * 8..at * 8 + 8].try_into().expect("8 bytes"));
    let ranks = || all.chunks_exact(own.len());
    let longest = |at| ranks().map(|rank| word(rank, at)).max().unwrap_or(0);
    let slowest = (0..samples.len()).map(|at| Duration::from_nanos(longest(at))).collect();
    Ok((slowest, ranks().map(|rank| word(rank, samples.len())).sum()))
}

/// One line, in one write.
fn say(line: &str) {
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
    let _ = std::io::stdout().flush();
}
