//! One rank of a measurement.

use std::ops::{Deref, DerefMut};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use halo_ccl::{Communicator, Config, DType, Input, Kind, ReduceOp, Rounding, SharedBuffer};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Benchmark, Choices, Placement};
use crate::check::{Expectation, fill};
use crate::error::Error;
use crate::output;
use crate::report::{Header, Report, Row};
use crate::sizes::sweep;

/// What a rank goes by.
pub(crate) struct Prepared {
    config: Config,
    choices: Choices,
    sizes: Vec<usize>,
}

/// Reads the arguments and the environment, and refuses what cannot be measured.
pub(crate) fn prepare(kind: Kind, options: &Benchmark) -> Result<Prepared, Error> {
    let choices = options.choices()?;
    let config = configuration(&options.placement, kind.name())?;
    refuse_impossible(kind, choices, config.world)?;
    let sizes = sizes(kind, choices.dtype, config.world, options)?;
    if let (0, Some(path)) = (config.rank, &options.json) {
        output::check(path)?;
    }
    Ok(Prepared { config, choices, sizes })
}

/// Runs this process's rank through all sizes; rank 0 reports.
pub(crate) fn run_rank(kind: Kind, options: &Benchmark, prepared: Prepared) -> Result<ExitCode, Error> {
    let Prepared { config, choices, sizes } = prepared;
    let rank = config.rank;
    let mut communicator = Communicator::connect(&config)?;
    let mut report = (rank == 0).then(|| Report::begin(Header::new(kind, choices, &communicator)));
    let bar = progress(rank, sizes.len() as u64);
    let mut wrong = 0;
    for size in sizes {
        bar.set_message(format!("{size} bytes"));
        let mut run = Run {
            kind,
            dtype: choices.dtype,
            op: choices.op,
            rounding: config.rounding,
            options,
            communicator: &mut communicator,
        };
        let row = run.measure(size)?;
        wrong += row.wrong.unwrap_or(0);
        if let Some(report) = &mut report {
            bar.suspend(|| report.add(row));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(report) = &mut report {
        report.add_rails(communicator.statistics().links);
    }
    communicator.close()?;
    if let Some(report) = report {
        report.end(options.json.as_deref())?;
        if wrong > 0 {
            return Err(Error::Wrong { wrong });
        }
    }
    Ok(if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// This rank's place, from the command line and the environment; for the parent of all ranks, that of the first.
pub(crate) fn configuration(placement: &Placement, name: &str) -> Result<Config, Error> {
    let (rank, world) = (placement.rank.unwrap_or(0), placement.world.unwrap_or(placement.ranks));
    let mut config = Config::from_env(rank, world).map_err(halo_ccl::Error::from)?;
    config.transport = placement.transport()?.unwrap_or(config.transport);
    config.rendezvous = placement.rendezvous.clone().unwrap_or(config.rendezvous);
    config.name = format!("halo-perf:{name}");
    config.validate().map_err(halo_ccl::Error::from)?;
    Ok(config)
}

fn refuse_impossible(kind: Kind, Choices { dtype, op, .. }: Choices, world: usize) -> Result<(), Error> {
    let refuse = |given: String, remedy| Err(Error::Unmeasurable { collective: kind.name(), given, remedy });
    if kind == Kind::SendRecv && world != 2 {
        return refuse(format!("{world} ranks"), "it runs between two ranks: use --ranks 2");
    }
    if matches!(kind, Kind::AllReduce | Kind::ReduceScatter | Kind::Reduce) && !op.is_defined_for(dtype) {
        return refuse(
            format!("--op {op} --dtype {dtype}"),
            "truth values have no average: use another --op",
        );
    }
    Ok(())
}

/// A size is a whole number of elements, and of blocks where ranks share it.
fn sizes(kind: Kind, dtype: DType, world: usize, options: &Benchmark) -> Result<Vec<usize>, Error> {
    if kind == Kind::Barrier {
        return Ok(vec![0]);
    }
    let shared =
        matches!(kind, Kind::AllGather | Kind::ReduceScatter | Kind::Gather | Kind::Scatter | Kind::AllToAll);
    let grain = dtype.size() * if shared { world } else { 1 };
    let sizes = sweep(options.min.0, options.max.0, options.factor, grain);
    if sizes.is_empty() {
        return Err(Error::NoSizes { min: options.min.0, max: options.max.0 });
    }
    Ok(sizes)
}

fn progress(rank: usize, sizes: u64) -> ProgressBar {
    use std::io::IsTerminal;
    if rank != 0 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("the template is well-formed");
    ProgressBar::new(sizes).with_style(style)
}

/// Fewer iterations where one takes long.
fn default_iterations(size: usize) -> u64 {
    match size {
        0..=65_536 => 1000,
        65_537..=1_048_576 => 200,
        1_048_577..=16_777_216 => 50,
        _ => 20,
    }
}

/// Where an input or output lies.
enum Buffer {
    Own(Vec<u8>),
    /// The first bytes of a shared one.
    Shared(SharedBuffer, usize),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(buffer, bytes) => &buffer[..*bytes],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(buffer, bytes) => &mut buffer[..*bytes],
        }
    }
}

struct Run<'a> {
    kind: Kind,
    dtype: DType,
    op: ReduceOp,
    rounding: Rounding,
    options: &'a Benchmark,
    communicator: &'a mut Communicator,
}

impl Run<'_> {
    fn measure(&mut self, size: usize) -> Result<Row, Error> {
        let (rank, world) = (self.communicator.rank(), self.communicator.world());
        let block = size / world;
        let (input, output) = match self.kind {
            Kind::AllGather => (block, size),
            Kind::ReduceScatter => (size, block),
            Kind::Gather => (block, if rank == 0 { size } else { 0 }),
            Kind::Scatter => (if rank == 0 { size } else { 0 }, block),
            Kind::Reduce => (size, if rank == 0 { size } else { 0 }),
            Kind::AllToAll => (world * block, world * block),
            Kind::Barrier => (0, 0),
            _ => (size, size),
        };
        let (mut input, mut output) = (self.buffer(input, size)?, self.buffer(output, size)?);
        let wrong = if self.options.check { Some(self.check(&mut input, &mut output)?) } else { None };
        fill(self.dtype, rank, 0, 0, &mut input);
        for _ in 0..self.options.warmup {
            self.once(&input, &mut output)?;
        }
        let iterations = self.options.iterations.unwrap_or_else(|| default_iterations(size));
        let mut samples = Vec::with_capacity(iterations as usize);
        self.communicator.barrier()?;
        for _ in 0..iterations {
            let start = Instant::now();
            self.once(&input, &mut output)?;
            samples.push(start.elapsed());
        }
        // A collective is as slow as its slowest rank.
        let samples = self.slowest(&samples)?;
        let one_way = if self.kind == Kind::SendRecv { 2 } else { 1 };
        Ok(Row::new(self.kind, size, self.dtype, self.op, world, &samples, one_way, wrong))
    }

    /// A buffer of `bytes` bytes, of which halo allocates as many on every rank.
    fn buffer(&mut self, bytes: usize, size: usize) -> Result<Buffer, Error> {
        if !self.options.shared || size == 0 {
            return Ok(Buffer::Own(vec![0; bytes]));
        }
        Ok(Buffer::Shared(self.communicator.allocate(size)?, bytes))
    }

    fn once(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        let (communicator, dtype, op) = (&mut *self.communicator, self.dtype, self.op);
        match self.kind {
            Kind::AllReduce => communicator.all_reduce(Input::From(input), output, dtype, op)?,
            Kind::AllGather => communicator.all_gather(input, output, dtype)?,
            Kind::ReduceScatter => communicator.reduce_scatter(input, output, dtype, op)?,
            Kind::Broadcast => {
                if communicator.rank() == 0 {
                    output.copy_from_slice(input);
                }
                communicator.broadcast(output, dtype, 0)?;
            }
            Kind::Gather => {
                let output = (communicator.rank() == 0).then_some(output);
                communicator.gather(input, output, dtype, 0)?;
            }
            Kind::Reduce => {
                let output = (communicator.rank() == 0).then_some(output);
                communicator.reduce(input, output, dtype, op, 0)?;
            }
            Kind::Scatter => {
                let input = (communicator.rank() == 0).then_some(input);
                communicator.scatter(input, output, dtype, 0)?;
            }
            Kind::AllToAll => communicator.all_to_all(input, output, dtype)?,
            Kind::SendRecv if communicator.rank() == 0 => {
                communicator.send(input, dtype, 1)?;
                communicator.recv(output, dtype, 1)?;
            }
            Kind::SendRecv => {
                communicator.recv(output, dtype, 0)?;
                communicator.send(output, dtype, 0)?;
            }
            Kind::Barrier => communicator.barrier()?,
        }
        Ok(())
    }

    /// Three rounds with different inputs; wrong elements of all ranks together.
    fn check(&mut self, input: &mut [u8], output: &mut [u8]) -> Result<u64, Error> {
        let (rank, world) = (self.communicator.rank(), self.communicator.world());
        let mut wrong = 0;
        for iteration in 1..=3 {
            fill(self.dtype, rank, iteration, 0, input);
            output.fill(0xa5);
            self.once(input, output)?;
            let expectation = Expectation {
                kind: self.kind,
                algorithm: self.communicator.algorithm(output.len()),
                dtype: self.dtype,
                op: self.op,
                rounding: self.rounding,
                rank,
                world,
                iteration,
            };
            wrong += expectation.count_wrong(output);
        }
        let mut counts = vec![0; 8 * world];
        self.communicator.all_gather(&wrong.to_le_bytes(), &mut counts, DType::U8)?;
        Ok(counts
            .chunks_exact(8)
            .map(|count| u64::from_le_bytes(count.try_into().expect("eight bytes")))
            .sum())
    }

    /// For every iteration the longest time of any rank.
    fn slowest(&mut self, samples: &[Duration]) -> Result<Vec<Duration>, Error> {
        let own: Vec<u8> =
            samples.iter().flat_map(|sample| (sample.as_nanos() as u64).to_le_bytes()).collect();
        let mut all = vec![0; own.len() * self.communicator.world()];
        self.communicator.all_gather(&own, &mut all, DType::U8)?;
        let of = |chunk: &[u8], at: usize| {
            u64::from_le_bytes(chunk[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
        };
        let longest = |at: usize| all.chunks_exact(own.len()).map(|rank| of(rank, at)).max().unwrap_or(0);
        Ok((0..samples.len()).map(|at| Duration::from_nanos(longest(at))).collect())
    }
}
