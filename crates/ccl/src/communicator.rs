//! The communicator: checks arguments, runs a plan over the fabric to its end or its deadline, and remembers a
//! failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halo_fabric::{Config, Fabric, FabricError, LinkInfo, Mesh, Store};

use crate::dtype::{DType, ReduceOp};
use crate::error::Error;
use crate::operation::{Kind, Operation};
use crate::plan::{Plan, PlanError, Progress, Reduce, Transfer, share};
use crate::statistics::{Counters, Statistics, StatisticsFile};
use crate::wait::Wait;

/// Up to this size 3 and more ranks send everything to everybody; above, each reduces one block and shares it. Two
/// ranks move the same bytes either way, and one phase is shorter than two.
const ONE_SHOT_BYTES: usize = 64 * 1024;
/// Idle turns are this long before a rank asks whether its peer can still answer at all.
const ASK_AFTER: Duration = Duration::from_millis(1);

/// Where the input of an operation lies.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// In the output buffer, which the result replaces.
    InPlace,
    /// In a buffer of its own, as long as the operation says.
    From(&'a [u8]),
}

/// A group of ranks that run collectives together. Every rank issues the same operations in the same order.
///
/// After a failure of the fabric, a mismatch or a time-out the communicator is poisoned: every later call answers
/// with the same error at once.
#[derive(Debug)]
pub struct Communicator {
    mesh: Mesh,
    timeout: Duration,
    epoch: u32,
    failed: Option<Error>,
    counters: Arc<Counters>,
    statistics_file: Option<StatisticsFile>,
    links: Vec<LinkInfo>,
}

impl Communicator {
    /// Meets the other ranks at `config.rendezvous`, where rank 0 listens.
    ///
    /// # Errors
    /// Whatever keeps the ranks from meeting within `config.timeout`: see [`FabricError`].
    pub fn connect(config: &Config) -> Result<Self, Error> {
        Self::over(Mesh::connect(config)?, config)
    }

    /// Meets the other ranks through a store that the caller serves; `config.rendezvous` is not used.
    ///
    /// # Errors
    /// As [`Communicator::connect`].
    pub fn connect_with_store(config: &Config, store: &dyn Store) -> Result<Self, Error> {
        Self::over(Mesh::connect_with_store(config, store)?, config)
    }

    fn over(mesh: Mesh, config: &Config) -> Result<Self, Error> {
        let counters = Arc::new(Counters::new(config, &mesh));
        let statistics_file = StatisticsFile::start(config, &counters)?;
        let links = mesh.links().map(|(info, _)| info.clone()).collect();
        Ok(Self { mesh, timeout: config.timeout, epoch: 0, failed: None, counters, statistics_file, links })
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.mesh.rank()
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.mesh.world()
    }

    /// What carries payloads to each peer, and why; in rank order, without this rank.
    pub fn links(&self) -> &[LinkInfo] {
        &self.links
    }

    /// Bytes of registered memory that this rank keeps for its peers.
    pub fn arena_bytes(&self) -> usize {
        self.mesh.arena_bytes()
    }

    /// What has been done so far.
    pub fn statistics(&self) -> Statistics {
        self.counters.snapshot()
    }

    /// Every rank's `output` becomes the reduction of all inputs. Sums run in rank order in f32 and round once, so
    /// all ranks get the same bits.
    ///
    /// # Errors
    /// Buffer sizes that differ or are no whole number of elements, a type without arithmetic, or a failure that
    /// poisons the communicator.
    pub fn all_reduce(
        &mut self,
        input: Input<'_>,
        output: &mut [u8],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<(), Error> {
        const NAME: &str = "all_reduce";
        let bytes = output.len();
        let input = separate(input);
        arithmetic(NAME, dtype)?;
        whole_elements(NAME, "output", output, dtype)?;
        same_size(NAME, "input", input.map_or(bytes, <[u8]>::len), bytes, "as the output has")?;
        let operation = self.begin(Kind::AllReduce, dtype, Some(op), None, bytes)?;
        let (rank, world, tag) = (self.rank(), self.world(), operation.tag());
        if world == 1 {
            self.alone(&operation, input, output);
            return Ok(());
        }
        let start = Instant::now();
        if world == 2 || bytes <= ONE_SHOT_BYTES {
            let plan = Reduce::new(&self.mesh, tag, (dtype, op), input, output, |_| 0..bytes, 0..bytes);
            self.drive(&operation, plan)?;
        } else {
            let part = |rank| share(bytes, world, rank);
            let plan = Reduce::new(&self.mesh, tag, (dtype, op), input, output, part, part(rank));
            self.drive(&operation, plan)?;
            let mut plan = Transfer::new(&self.mesh, tag, None, output);
            for peer in (0..world).filter(|peer| *peer != rank) {
                plan = plan.send(peer, part(rank)).receive(peer, part(peer));
            }
            self.drive(&operation, plan)?;
        }
        self.finish(&operation, start);
        Ok(())
    }

    /// Every rank's `output` becomes all ranks' inputs, in rank order: `world` times as long as `input`.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`].
    pub fn all_gather(&mut self, input: &[u8], output: &mut [u8], dtype: DType) -> Result<(), Error> {
        const NAME: &str = "all_gather";
        let (rank, world, block) = (self.rank(), self.world(), input.len());
        whole_elements(NAME, "input", input, dtype)?;
        same_size(NAME, "output", output.len(), world * block, "world times the input")?;
        let operation = self.begin(Kind::AllGather, dtype, None, None, block)?;
        let start = Instant::now();
        output[rank * block..(rank + 1) * block].copy_from_slice(input);
        let mut plan = Transfer::new(&self.mesh, operation.tag(), Some(input), output);
        for peer in (0..world).filter(|peer| *peer != rank) {
            plan = plan.send(peer, 0..block).receive(peer, peer * block..(peer + 1) * block);
        }
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// `output` becomes this rank's block of the reduction of all inputs; `input` is `world` times as long.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`].
    pub fn reduce_scatter(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<(), Error> {
        const NAME: &str = "reduce_scatter";
        let (world, block) = (self.world(), output.len());
        arithmetic(NAME, dtype)?;
        whole_elements(NAME, "output", output, dtype)?;
        same_size(NAME, "input", input.len(), world * block, "world times the output")?;
        let operation = self.begin(Kind::ReduceScatter, dtype, Some(op), None, block)?;
        if world == 1 {
            self.alone(&operation, Some(input), output);
            return Ok(());
        }
        let start = Instant::now();
        let part = |rank: usize| rank * block..(rank + 1) * block;
        let plan = Reduce::new(&self.mesh, operation.tag(), (dtype, op), Some(input), output, part, 0..block);
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// Every rank's `buffer` becomes the root's.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`], and a root that does not exist.
    pub fn broadcast(&mut self, buffer: &mut [u8], dtype: DType, root: usize) -> Result<(), Error> {
        const NAME: &str = "broadcast";
        let (rank, world, bytes) = (self.rank(), self.world(), buffer.len());
        whole_elements(NAME, "broadcast", buffer, dtype)?;
        existing(NAME, root, world)?;
        let operation = self.begin(Kind::Broadcast, dtype, None, Some(root), bytes)?;
        let start = Instant::now();
        let mut plan = Transfer::new(&self.mesh, operation.tag(), None, buffer);
        if rank == root {
            for peer in (0..world).filter(|peer| *peer != root) {
                plan = plan.send(peer, 0..bytes);
            }
        } else {
            plan = plan.receive(root, 0..bytes);
        }
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// The root's `output` becomes all ranks' inputs, in rank order; other ranks pass `None`.
    ///
    /// # Errors
    /// As [`Communicator::broadcast`]; a root without an output.
    pub fn gather(
        &mut self,
        input: &[u8],
        output: Option<&mut [u8]>,
        dtype: DType,
        root: usize,
    ) -> Result<(), Error> {
        const NAME: &str = "gather";
        let (rank, world, block) = (self.rank(), self.world(), input.len());
        whole_elements(NAME, "input", input, dtype)?;
        existing(NAME, root, world)?;
        let output = match output {
            Some(output) if rank == root => output,
            _ => &mut [],
        };
        if rank == root {
            same_size(NAME, "output", output.len(), world * block, "world times the input, on the root")?;
        }
        let operation = self.begin(Kind::Gather, dtype, None, Some(root), block)?;
        let start = Instant::now();
        if rank == root {
            output[rank * block..(rank + 1) * block].copy_from_slice(input);
        }
        let mut plan = Transfer::new(&self.mesh, operation.tag(), Some(input), output);
        if rank == root {
            for peer in (0..world).filter(|peer| *peer != root) {
                plan = plan.receive(peer, peer * block..(peer + 1) * block);
            }
        } else {
            plan = plan.send(root, 0..block);
        }
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// Sends `data` to one rank, which calls [`Communicator::recv`] with a buffer of the same size.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`], and a peer that does not exist.
    pub fn send(&mut self, data: &[u8], dtype: DType, to: usize) -> Result<(), Error> {
        whole_elements("send", "data", data, dtype)?;
        self.other_rank("send", to)?;
        let operation = self.begin(Kind::SendRecv, dtype, None, None, data.len())?;
        let start = Instant::now();
        let plan = Transfer::new(&self.mesh, operation.tag(), Some(data), &mut []).send(to, 0..data.len());
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// Receives into `data` what one rank sends with [`Communicator::send`].
    ///
    /// # Errors
    /// As [`Communicator::send`].
    pub fn recv(&mut self, data: &mut [u8], dtype: DType, from: usize) -> Result<(), Error> {
        whole_elements("recv", "data", data, dtype)?;
        self.other_rank("recv", from)?;
        let bytes = data.len();
        let operation = self.begin(Kind::SendRecv, dtype, None, None, bytes)?;
        let start = Instant::now();
        let plan = Transfer::new(&self.mesh, operation.tag(), None, data).receive(from, 0..bytes);
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// A failure that poisons the communicator.
    pub fn barrier(&mut self) -> Result<(), Error> {
        let (rank, world) = (self.rank(), self.world());
        let operation = self.begin(Kind::Barrier, DType::U8, None, None, 0)?;
        let start = Instant::now();
        let mut plan = Transfer::new(&self.mesh, operation.tag(), None, &mut []);
        for peer in (0..world).filter(|peer| *peer != rank) {
            plan = plan.send(peer, 0..0).receive(peer, 0..0);
        }
        self.drive(&operation, plan)?;
        self.finish(&operation, start);
        Ok(())
    }

    /// Lets the last bytes leave and says good-bye. Dropping does the same, without the error.
    ///
    /// # Errors
    /// The failure that had poisoned the communicator, or statistics that could not be written.
    pub fn close(mut self) -> Result<(), Error> {
        let written = self.statistics_file.as_mut().map_or(Ok(()), StatisticsFile::finish);
        let closed = self.mesh.close();
        match self.failed.take() {
            Some(error) => Err(error),
            None => closed.map_err(Error::from).and(written),
        }
    }

    /// Names the operation and refuses it at once if the communicator has failed before.
    fn begin(
        &mut self,
        kind: Kind,
        dtype: DType,
        op: Option<ReduceOp>,
        root: Option<usize>,
        bytes: usize,
    ) -> Result<Operation, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // Only some ranks take part in a send/recv, so it does not count for the others either.
        let epoch = if kind == Kind::SendRecv {
            0
        } else {
            // Zero stays reserved when the count wraps.
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
            self.epoch
        };
        Ok(Operation { kind, dtype, op, root, epoch, bytes })
    }

    fn finish(&self, operation: &Operation, start: Instant) {
        self.counters.record(operation.kind, operation.bytes, start.elapsed());
    }

    /// The reduction of a world of one is its input.
    fn alone(&self, operation: &Operation, input: Option<&[u8]>, output: &mut [u8]) {
        let start = Instant::now();
        if let Some(input) = input {
            output.copy_from_slice(input);
        }
        self.finish(operation, start);
    }

    /// Runs a plan to its end, its failure or its deadline.
    fn drive(&mut self, operation: &Operation, mut plan: impl Plan) -> Result<(), Error> {
        let mut wait = Wait::default();
        loop {
            match plan.step(&mut self.mesh) {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::Moved) => wait.moved(),
                Ok(Progress::Idle) => {
                    let waited = wait.idle();
                    if let Some(waited) = waited.filter(|waited| *waited > ASK_AFTER)
                        && let Err(error) = self.still_possible(operation, &plan, waited)
                    {
                        return Err(self.fail(error));
                    }
                }
                Err(error) => {
                    let error = self.explain(operation, error);
                    return Err(self.fail(error));
                }
            }
            if let Err(error) = self.mesh.progress() {
                return Err(self.fail(error.into()));
            }
        }
    }

    /// Whether it makes sense to wait on: nobody has left, and the deadline has not passed.
    fn still_possible(&self, operation: &Operation, plan: &impl Plan, waited: Duration) -> Result<(), Error> {
        let waiting_for = plan.waiting_for(&self.mesh);
        waiting_for.iter().try_for_each(|peer| self.mesh.expect(*peer))?;
        if waited < self.timeout {
            return Ok(());
        }
        let name = |peer: &usize| match self.links.iter().find(|link| link.peer == *peer) {
            Some(link) => format!("{peer} ({} by {})", link.host, link.transport),
            None => peer.to_string(),
        };
        Err(Error::Timeout {
            operation: operation.to_string(),
            rank: self.rank(),
            waiting_for: waiting_for.iter().map(name).collect::<Vec<_>>().join(", "),
            after: waited,
        })
    }

    fn explain(&self, operation: &Operation, error: PlanError) -> Error {
        let host = |peer: usize| {
            let link = self.links.iter().find(|link| link.peer == peer);
            link.map_or_else(String::new, |link| link.host.clone())
        };
        let malformed = |peer: usize, cause: String| {
            Error::Fabric(FabricError::MalformedMessage { peer, host: host(peer), cause })
        };
        match error {
            PlanError::Fabric(error) => error.into(),
            PlanError::Mismatch { peer, theirs } => match Operation::from_tag(theirs) {
                Some(theirs) => Error::Mismatch {
                    rank: self.rank(),
                    ours: operation.to_string(),
                    peer,
                    host: host(peer),
                    theirs: theirs.to_string(),
                },
                None => malformed(peer, format!("{theirs:?} names no operation")),
            },
            PlanError::WrongLength { peer, given, expected } => {
                malformed(peer, format!("{given} bytes where {operation} has {expected}"))
            }
        }
    }

    /// Remembers a failure and tells the peers, so that nobody waits for this rank.
    fn fail(&mut self, error: Error) -> Error {
        if error.is_fatal() && self.failed.is_none() {
            let failure = format!("{}: {error}", error.stable_code());
            self.mesh.stop_everybody(failure.clone());
            self.counters.fail(failure);
            if let Some(file) = &self.statistics_file {
                file.renew();
            }
            self.failed = Some(error.clone());
        }
        error
    }

    fn other_rank(&self, operation: &'static str, peer: usize) -> Result<(), Error> {
        if peer < self.world() && peer != self.rank() {
            return Ok(());
        }
        let expected = format!("another rank of world {}", self.world());
        Err(Error::BadRank { operation, given: peer, expected })
    }
}

fn separate(input: Input<'_>) -> Option<&[u8]> {
    match input {
        Input::InPlace => None,
        Input::From(bytes) => Some(bytes),
    }
}

fn arithmetic(operation: &'static str, dtype: DType) -> Result<(), Error> {
    if dtype.is_arithmetic() {
        Ok(())
    } else {
        Err(Error::NoArithmetic { operation, dtype: dtype.to_string() })
    }
}

fn whole_elements(
    operation: &'static str,
    buffer: &'static str,
    bytes: &[u8],
    dtype: DType,
) -> Result<(), Error> {
    if bytes.len().is_multiple_of(dtype.size()) {
        return Ok(());
    }
    let expected = format!("which is no whole number of {dtype} elements of {} bytes", dtype.size());
    Err(Error::BufferSize { operation, buffer, given: bytes.len(), expected })
}

fn same_size(
    operation: &'static str,
    buffer: &'static str,
    given: usize,
    wanted: usize,
    rule: &str,
) -> Result<(), Error> {
    if given == wanted {
        return Ok(());
    }
    Err(Error::BufferSize { operation, buffer, given, expected: format!("{wanted} are needed: {rule}") })
}

fn existing(operation: &'static str, root: usize, world: usize) -> Result<(), Error> {
    if root < world {
        return Ok(());
    }
    Err(Error::BadRank { operation, given: root, expected: format!("a rank of world {world}") })
}
