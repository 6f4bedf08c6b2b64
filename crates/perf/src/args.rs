//! The command line, declared once; help, usage errors and completion come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use halo_ccl::{DType, Kind, ReduceOp, TransportChoice};

use crate::sizes::Bytes;

const EXAMPLES: &str = "Examples:
  halo-perf devices
  halo-perf all-reduce --ranks 2 --dtype bf16 --min 8 --max 64M
  halo-perf all-gather --ranks 4 --transport tcp --check --json result.json

  Two hosts, the same key on both (HALO_KEY or HALO_KEY_FILE; `halo-perf key` makes one):
  host1$ halo-perf all-reduce --rank 0 --world 2 --rendezvous 192.168.100.1:29510
  host2$ halo-perf all-reduce --rank 1 --world 2 --rendezvous 192.168.100.1:29510
  The same for the tables: `tune` for halo's own collectives, `tune-plugin` for RCCL's and NCCL's.";

/// Measures halo's collectives and links.
#[derive(Debug, Parser)]
#[command(name = "halo-perf", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show RDMA devices, ports, GIDs, and which one halo would use
    Devices(DeviceOptions),
    /// Print a fresh key for HALO_KEY
    Key,
    /// Every rank gets the reduction of all inputs
    AllReduce(Benchmark),
    /// Every rank gets all inputs (the size is one rank's output)
    AllGather(Benchmark),
    /// Every rank gets its block of the reduction (the size is one rank's input)
    ReduceScatter(Benchmark),
    /// Every rank gets rank 0's buffer
    Broadcast(Benchmark),
    /// Rank 0 gets all inputs (the size is rank 0's output)
    Gather(Benchmark),
    /// Rank 0 gets the reduction of all inputs
    Reduce(Benchmark),
    /// Every rank gets its block of rank 0's input (the size is that input)
    Scatter(Benchmark),
    /// Every rank gets its block of every input (the size is one rank's input)
    AllToAll(Benchmark),
    /// Rank 0 sends to rank 1 and gets an answer of the same size; the time is one way
    Sendrecv(Benchmark),
    /// Nobody leaves before everybody came
    Barrier(Benchmark),
    /// Measure every algorithm of an all-reduce and write the plan table for HALO_PLANS
    Tune(TuneOptions),
    /// Measure the link between two hosts and write the net plugin's tuner table for HALO_TUNER_FILE
    TunePlugin(TunePluginOptions),
}

impl Command {
    /// The collective to measure.
    pub(crate) fn benchmark(&self) -> (Kind, &Benchmark) {
        match self {
            Self::AllReduce(options) => (Kind::AllReduce, options),
            Self::AllGather(options) => (Kind::AllGather, options),
            Self::ReduceScatter(options) => (Kind::ReduceScatter, options),
            Self::Broadcast(options) => (Kind::Broadcast, options),
            Self::Gather(options) => (Kind::Gather, options),
            Self::Reduce(options) => (Kind::Reduce, options),
            Self::Scatter(options) => (Kind::Scatter, options),
            Self::AllToAll(options) => (Kind::AllToAll, options),
            Self::Sendrecv(options) => (Kind::SendRecv, options),
            Self::Barrier(options) => (Kind::Barrier, options),
            Self::Devices(_) | Self::Key | Self::Tune(_) | Self::TunePlugin(_) => {
                unreachable!("handled before")
            }
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DeviceOptions {
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the ranks are, and what is between them.
#[derive(Debug, Args)]
pub(crate) struct Placement {
    /// Ranks to start on this machine
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with_all = ["rank", "world"])]
    pub(crate) ranks: usize,
    /// This process's rank; other ranks are started elsewhere
    #[arg(long, value_name = "R", requires = "world", requires = "rendezvous")]
    pub(crate) rank: Option<usize>,
    /// Number of ranks, with --rank
    #[arg(long, value_name = "N", requires = "rank")]
    pub(crate) world: Option<usize>,
    /// Where rank 0 listens, with --rank
    #[arg(long, value_name = "HOST:PORT", requires = "rank")]
    pub(crate) rendezvous: Option<String>,
    /// auto, rdma, tcp or shm [default: HALO_TRANSPORT, else auto]
    #[arg(long, value_name = "T")]
    pub(crate) transport: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Benchmark {
    #[command(flatten)]
    pub(crate) placement: Placement,
    /// f64, f32, f16, bf16, f8e4m3, f8e5m2, f8e4m3fnuz, f8e5m2fnuz, i8 to i64, u8 to u64, or bool
    #[arg(long, value_name = "D", default_value = "bf16")]
    pub(crate) dtype: String,
    /// sum, prod, max, min or avg, where something is reduced
    #[arg(long, value_name = "O", default_value = "sum")]
    pub(crate) op: String,
    /// Smallest size in bytes; K, M and G are binary
    #[arg(long, value_name = "SIZE", default_value = "8")]
    pub(crate) min: Bytes,
    /// Largest size in bytes
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    pub(crate) max: Bytes,
    /// Each size is this many times the one before
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) factor: u64,
    /// Timed iterations per size [default: chosen by size, 1000 down to 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) iterations: Option<u64>,
    /// Iterations before those
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) warmup: u64,
    /// Compare every element with the expected one; a wrong one makes the exit status 1
    #[arg(long)]
    pub(crate) check: bool,
    /// Take buffers from halo, which are read where they lie on one host and registered over rdma
    #[arg(long)]
    pub(crate) shared: bool,
    /// Also write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TuneOptions {
    #[command(flatten)]
    pub(crate) placement: Placement,
    /// Smallest size in bytes; K, M and G are binary
    #[arg(long, value_name = "SIZE", default_value = "1K")]
    pub(crate) min: Bytes,
    /// Largest size in bytes; what is best there is used above it too
    #[arg(long, value_name = "SIZE", default_value = "16M")]
    pub(crate) max: Bytes,
    /// Rounds in which every algorithm is measured in turn; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// The file to write, on the machine of rank 0; rules of other rank counts and transports in it are kept
    #[arg(long, value_name = "FILE", default_value = "halo-plans.toml")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TunePluginOptions {
    #[command(flatten)]
    pub(crate) placement: Placement,
    /// What a step of RCCL's protocol Simple costs more than one of LL, in us; the default is RCCL's own figure
    #[arg(long, value_name = "US", default_value_t = halo_tuner::HANDSHAKE_US, value_parser = microseconds)]
    pub(crate) handshake_us: f64,
    /// Rounds in which every size is measured in turn; the median of all counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// The file to write, on the machine of rank 0; what is in it is replaced
    #[arg(long, value_name = "FILE", default_value = "halo-tuner.toml")]
    pub(crate) output: PathBuf,
}

fn microseconds(text: &str) -> Result<f64, String> {
    let given = text.parse().ok().filter(|given| (0.0..=1e6).contains(given));
    given.ok_or_else(|| "microseconds are a number from 0 to 1000000".to_owned())
}

/// The names in a benchmark's options, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choices {
    pub(crate) dtype: DType,
    pub(crate) op: ReduceOp,
}

impl Benchmark {
    /// Reads the names; an unknown one is an error with the known ones.
    pub(crate) fn choices(&self) -> Result<Choices, halo_ccl::Error> {
        Ok(Choices { dtype: self.dtype.parse()?, op: self.op.parse()? })
    }
}

impl Placement {
    /// The transport, if one is asked for.
    pub(crate) fn transport(&self) -> Result<Option<TransportChoice>, halo_ccl::Error> {
        Ok(self.transport.as_ref().map(|name| name.parse()).transpose()?)
    }
}
