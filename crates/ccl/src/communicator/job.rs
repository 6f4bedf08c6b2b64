//! From a request to a job: the arguments are checked, the operation gets its number, and its plan is chosen.

use halo_fabric::Fabric;

use super::Communicator;
use crate::check;
use crate::dtype::DType;
use crate::error::Error;
use crate::operation::{Kind, Operation};
use crate::plan::{
    Algorithm, Doubling, Exchange, Parts, PerRank, Plan, PlanError, Progress, Reduce, ReduceAndShare, Ring,
    Transfer,
};
use crate::reduce::Arithmetic;
use crate::reduce_op::ReduceOp;
use crate::request::{Input, Request};
use crate::ticks::Ticks;

/// One operation that has begun on this rank.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) operation: Operation,
    pub(super) start: Ticks,
    pub(super) plan: AnyPlan<'a>,
}

/// Every plan: static dispatch in the loop that drives it.
#[derive(Debug)]
pub(super) enum AnyPlan<'a> {
    /// Nothing to exchange: the result is there.
    Done,
    Reduce(Reduce<'a>),
    ReduceAndShare(ReduceAndShare<'a>),
    Doubling(Doubling<'a>),
    Ring(Ring<'a>),
    Transfer(Transfer<'a>),
    Exchange(Exchange<'a>),
}

impl Plan for AnyPlan<'_> {
    #[inline(always)]
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        match self {
            Self::Done => Ok(Progress::Done),
            Self::Reduce(plan) => plan.step(fabric),
            Self::ReduceAndShare(plan) => plan.step(fabric),
            Self::Doubling(plan) => plan.step(fabric),
            Self::Ring(plan) => plan.step(fabric),
            Self::Transfer(plan) => plan.step(fabric),
            Self::Exchange(plan) => plan.step(fabric),
        }
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        match self {
            Self::Done => PerRank::new(),
            Self::Reduce(plan) => plan.waiting_for(fabric),
            Self::ReduceAndShare(plan) => plan.waiting_for(fabric),
            Self::Doubling(plan) => plan.waiting_for(fabric),
            Self::Ring(plan) => plan.waiting_for(fabric),
            Self::Transfer(plan) => plan.waiting_for(fabric),
            Self::Exchange(plan) => plan.waiting_for(fabric),
        }
    }
}

impl AnyPlan<'_> {
    /// The memory that was lent to a plan which is done.
    #[inline]
    pub(super) fn take_scratch(&mut self) -> Option<Vec<u8>> {
        if !matches!(self, Self::Doubling(_) | Self::Ring(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Done) {
            Self::Doubling(plan) => Some(plan.into_scratch()),
            Self::Ring(plan) => Some(plan.into_scratch()),
            _ => None,
        }
    }
}

impl Communicator {
    /// Begins an operation. A refused argument leaves the communicator as it was.
    pub(super) fn begin<'a>(&mut self, request: Request<'a>) -> Result<Job<'a>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match request {
            Request::AllReduce { input, output, dtype, op } => {
                self.all_reduce_job(input, output, dtype, op, 0)
            }
            Request::Reduce { input, output, dtype, op, root } => {
                self.reduce_job(input, output, dtype, op, root)
            }
            Request::ReduceScatter { input, output, dtype, op } => {
                self.reduce_scatter_job(input, output, dtype, op)
            }
            Request::AllGather { input, output, dtype } => self.all_gather_job(input, output, dtype),
            Request::Broadcast { buffer, dtype, root } => self.broadcast_job(buffer, dtype, root),
            Request::Gather { input, output, dtype, root } => self.gather_job(input, output, dtype, root),
            Request::Scatter { input, output, dtype, root } => self.scatter_job(input, output, dtype, root),
            Request::AllToAll { input, output, dtype } => self.all_to_all_job(input, output, dtype),
            Request::Send { data, dtype, to } => {
                let tag = self.send_recv("send", data.len(), dtype, to)?;
                let mut exchange = Exchange::new(&self.mesh);
                exchange.send(to, tag.tag(), data);
                Ok(self.job(tag, AnyPlan::Exchange(exchange)))
            }
            Request::Recv { data, dtype, from } => {
                let tag = self.send_recv("recv", data.len(), dtype, from)?;
                let mut exchange = Exchange::new(&self.mesh);
                exchange.receive(from, tag.tag(), data);
                Ok(self.job(tag, AnyPlan::Exchange(exchange)))
            }
            Request::Barrier => {
                let operation = self.operation(Kind::Barrier, DType::U8, None, None, 0);
                // An empty message to and from everybody.
                let nothing = Parts::same(&(0..0));
                let plan = Transfer::new(&self.mesh, operation.tag(), None, &mut [], nothing, nothing);
                Ok(self.job(operation, AnyPlan::Transfer(plan)))
            }
        }
    }

    /// `members` is the digest of those that a group has put together, or 0.
    pub(super) fn all_reduce_job<'a>(
        &mut self,
        input: Input<'a>,
        output: &'a mut [u8],
        dtype: DType,
        op: ReduceOp,
        members: u16,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "all_reduce";
        let (input, bytes) = (input.separate(), output.len());
        check::arithmetic(NAME, dtype, op)?;
        check::whole_elements(NAME, "output", bytes, dtype)?;
        check::same_size(NAME, "input", input.map_or(bytes, <[u8]>::len), bytes, "as the output has")?;
        let operation = self.operation(Kind::AllReduce, dtype, Some(op), None, bytes);
        let operation = Operation { members, ..operation };
        let (tag, arithmetic) = (operation.tag(), Arithmetic { dtype, op, rounding: self.config.rounding });
        let choice = self.choices.of(bytes);
        let plan = match choice.algorithm {
            _ if self.world() == 1 => alone(dtype, input, output),
            Algorithm::OneShot => {
                let parts = Parts::same(&(0..bytes));
                let chunk = choice.chunk;
                AnyPlan::Reduce(
                    Reduce::new(&self.mesh, tag, arithmetic, input, output, parts, 0).in_chunks(chunk),
                )
            }
            Algorithm::Doubling => {
                let scratch = std::mem::take(&mut self.scratch);
                AnyPlan::Doubling(Doubling::new(&self.mesh, tag, arithmetic, input, output, scratch))
            }
            Algorithm::Ring => {
                let scratch = std::mem::take(&mut self.scratch);
                AnyPlan::Ring(Ring::new(&self.mesh, tag, arithmetic, input, output, choice.chunk, scratch))
            }
            Algorithm::TwoShot => {
                AnyPlan::ReduceAndShare(ReduceAndShare::new(&self.mesh, tag, arithmetic, input, output))
            }
        };
        Ok(self.job(operation, plan))
    }

    fn reduce_job<'a>(
        &mut self,
        input: Input<'a>,
        output: Option<&'a mut [u8]>,
        dtype: DType,
        op: ReduceOp,
        root: usize,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "reduce";
        check::arithmetic(NAME, dtype, op)?;
        check::root(NAME, root, self.world())?;
        let input = self.only_root_in_place(NAME, input, root)?;
        let output = self.only_root(output, root);
        let bytes = input.map_or(output.len(), <[u8]>::len);
        check::whole_elements(NAME, "input", bytes, dtype)?;
        if self.rank() == root {
            check::same_size(NAME, "output", output.len(), bytes, "as the input has, on the root")?;
        }
        let operation = self.operation(Kind::Reduce, dtype, Some(op), Some(root), bytes);
        let plan = if self.world() == 1 {
            alone(dtype, input, output)
        } else {
            let parts = Parts::Only { rank: root, bytes };
            let arithmetic = Arithmetic { dtype, op, rounding: self.config.rounding };
            AnyPlan::Reduce(Reduce::new(&self.mesh, operation.tag(), arithmetic, input, output, parts, 0))
        };
        Ok(self.job(operation, plan))
    }

    fn reduce_scatter_job<'a>(
        &mut self,
        input: Input<'a>,
        output: &'a mut [u8],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "reduce_scatter";
        check::arithmetic(NAME, dtype, op)?;
        let (rank, world) = (self.rank(), self.world());
        let input = input.separate();
        let (block, result) = if let Some(input) = input {
            check::whole_elements(NAME, "output", output.len(), dtype)?;
            check::same_size(NAME, "input", input.len(), world * output.len(), "world times the output")?;
            (output.len(), 0)
        } else {
            let block = check::blocks(NAME, "output", output.len(), world, dtype)?;
            (block, rank * block)
        };
        let operation = self.operation(Kind::ReduceScatter, dtype, Some(op), None, block);
        let plan = if world == 1 {
            alone(dtype, input, output)
        } else {
            let (tag, arithmetic) =
                (operation.tag(), Arithmetic { dtype, op, rounding: self.config.rounding });
            let parts = Parts::Blocks { block };
            AnyPlan::Reduce(Reduce::new(&self.mesh, tag, arithmetic, input, output, parts, result))
        };
        Ok(self.job(operation, plan))
    }

    fn all_gather_job<'a>(
        &mut self,
        input: Input<'a>,
        output: &'a mut [u8],
        dtype: DType,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "all_gather";
        let (rank, world) = (self.rank(), self.world());
        let input = input.separate();
        let block = match input {
            Some(input) => {
                check::whole_elements(NAME, "input", input.len(), dtype)?;
                check::same_size(NAME, "output", output.len(), world * input.len(), "world times the input")?;
                input.len()
            }
            None => check::blocks(NAME, "output", output.len(), world, dtype)?,
        };
        let operation = self.operation(Kind::AllGather, dtype, None, None, block);
        let own = rank * block..(rank + 1) * block;
        if let Some(input) = input {
            output[own.clone()].copy_from_slice(input);
        }
        let (sends, receives) = (Parts::same(&own), Parts::Blocks { block });
        let plan = Transfer::new(&self.mesh, operation.tag(), None, output, sends, receives);
        Ok(self.job(operation, AnyPlan::Transfer(plan)))
    }

    fn broadcast_job<'a>(
        &mut self,
        buffer: &'a mut [u8],
        dtype: DType,
        root: usize,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "broadcast";
        let bytes = buffer.len();
        check::whole_elements(NAME, "broadcast", bytes, dtype)?;
        check::root(NAME, root, self.world())?;
        let operation = self.operation(Kind::Broadcast, dtype, None, Some(root), bytes);
        let (sends, receives) = if self.rank() == root {
            (Parts::same(&(0..bytes)), Parts::Nobody)
        } else {
            (Parts::Nobody, Parts::Only { rank: root, bytes })
        };
        let plan = Transfer::new(&self.mesh, operation.tag(), None, buffer, sends, receives);
        Ok(self.job(operation, AnyPlan::Transfer(plan)))
    }

    fn gather_job<'a>(
        &mut self,
        input: Input<'a>,
        output: Option<&'a mut [u8]>,
        dtype: DType,
        root: usize,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "gather";
        let (rank, world) = (self.rank(), self.world());
        check::root(NAME, root, world)?;
        let input = self.only_root_in_place(NAME, input, root)?;
        let output = self.only_root(output, root);
        let block = match input {
            Some(input) => input.len(),
            None => check::blocks(NAME, "output", output.len(), world, dtype)?,
        };
        check::whole_elements(NAME, "input", block, dtype)?;
        if rank == root {
            check::same_size(
                NAME,
                "output",
                output.len(),
                world * block,
                "world times the input, on the root",
            )?;
        }
        let operation = self.operation(Kind::Gather, dtype, None, Some(root), block);
        let (sends, receives) = if rank == root {
            if let Some(input) = input {
                output[rank * block..(rank + 1) * block].copy_from_slice(input);
            }
            (Parts::Nobody, Parts::Blocks { block })
        } else {
            (Parts::Only { rank: root, bytes: block }, Parts::Nobody)
        };
        let plan = Transfer::new(&self.mesh, operation.tag(), input, output, sends, receives);
        Ok(self.job(operation, AnyPlan::Transfer(plan)))
    }

    fn scatter_job<'a>(
        &mut self,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
        dtype: DType,
        root: usize,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "scatter";
        let (rank, world, block) = (self.rank(), self.world(), output.len());
        check::root(NAME, root, world)?;
        check::whole_elements(NAME, "output", block, dtype)?;
        let input = if rank == root { input.unwrap_or(&[]) } else { &[] };
        if rank == root {
            check::same_size(
                NAME,
                "input",
                input.len(),
                world * block,
                "world times the output, on the root",
            )?;
        }
        let operation = self.operation(Kind::Scatter, dtype, None, Some(root), block);
        let (sends, receives) = if rank == root {
            output.copy_from_slice(&input[rank * block..(rank + 1) * block]);
            (Parts::Blocks { block }, Parts::Nobody)
        } else {
            (Parts::Nobody, Parts::Only { rank: root, bytes: block })
        };
        let plan = Transfer::new(&self.mesh, operation.tag(), Some(input), output, sends, receives);
        Ok(self.job(operation, AnyPlan::Transfer(plan)))
    }

    fn all_to_all_job<'a>(
        &mut self,
        input: &'a [u8],
        output: &'a mut [u8],
        dtype: DType,
    ) -> Result<Job<'a>, Error> {
        const NAME: &str = "all_to_all";
        let (rank, world) = (self.rank(), self.world());
        let block = check::blocks(NAME, "output", output.len(), world, dtype)?;
        check::same_size(NAME, "input", input.len(), output.len(), "as the output has")?;
        let operation = self.operation(Kind::AllToAll, dtype, None, None, block);
        let own = rank * block..(rank + 1) * block;
        output[own.clone()].copy_from_slice(&input[own]);
        let parts = Parts::Blocks { block };
        let plan = Transfer::new(&self.mesh, operation.tag(), Some(input), output, parts, parts);
        Ok(self.job(operation, AnyPlan::Transfer(plan)))
    }

    /// Only some ranks take part in a send/recv, so it does not count among the operations of all.
    pub(super) fn send_recv(
        &self,
        name: &'static str,
        bytes: usize,
        dtype: DType,
        peer: usize,
    ) -> Result<Operation, Error> {
        check::whole_elements(name, "data", bytes, dtype)?;
        check::peer(name, peer, self.rank(), self.world())?;
        Ok(Operation { kind: Kind::SendRecv, dtype, op: None, root: None, epoch: 0, bytes, members: 0 })
    }

    fn operation(
        &mut self,
        kind: Kind,
        dtype: DType,
        op: Option<ReduceOp>,
        root: Option<usize>,
        bytes: usize,
    ) -> Operation {
        // Zero stays reserved when the count wraps.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        Operation { kind, dtype, op, root, epoch: self.epoch, bytes, members: 0 }
    }

    pub(super) fn job<'a>(&self, operation: Operation, plan: AnyPlan<'a>) -> Job<'a> {
        Job { operation, start: self.counters.start(), plan }
    }

    /// The output of an operation whose result only the root has.
    fn only_root<'a>(&self, output: Option<&'a mut [u8]>, root: usize) -> &'a mut [u8] {
        output.filter(|_| self.rank() == root).unwrap_or_default()
    }

    /// The input of such an operation: only the root has an output in which it could lie.
    fn only_root_in_place<'a>(
        &self,
        operation: &'static str,
        input: Input<'a>,
        root: usize,
    ) -> Result<Option<&'a [u8]>, Error> {
        let input = input.separate();
        if input.is_some() || self.rank() == root {
            return Ok(input);
        }
        let expected = "in place works only on the root, which has an output".to_owned();
        Err(Error::BufferSize { operation, buffer: "input", given: 0, expected })
    }
}

/// The reduction of a world of one is its input, with truth values as every result has them.
fn alone<'a>(dtype: DType, input: Option<&'a [u8]>, output: &'a mut [u8]) -> AnyPlan<'a> {
    if let Some(input) = input {
        output.copy_from_slice(input);
    }
    if dtype == DType::Bool {
        for truth in output {
            *truth = u8::from(*truth != 0);
        }
    }
    AnyPlan::Done
}
