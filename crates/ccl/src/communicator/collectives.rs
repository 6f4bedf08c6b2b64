//! The operations, one method each: they begin, and return when this rank's part is done. What their arguments mean in
//! detail is told at [`Request`].

use super::Communicator;
use crate::dtype::DType;
use crate::error::Error;
use crate::reduce_op::ReduceOp;
use crate::request::{Input, Request};

impl Communicator {
    /// Every rank's `output` becomes the reduction of all inputs, the same bits on all ranks: see [`ReduceOp`].
    ///
    /// # Errors
    /// Buffer sizes that differ or are no whole number of elements, an operation that the type does not have, or a
    /// failure that poisons the communicator.
    pub fn all_reduce(
        &mut self,
        input: Input<'_>,
        output: &mut [u8],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<(), Error> {
        self.run(Request::AllReduce { input, output, dtype, op })
    }

    /// The root's `output` becomes the reduction of all inputs; other ranks pass `None`.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`]; a root that does not exist, or that has no output.
    pub fn reduce<'a>(
        &mut self,
        input: impl Into<Input<'a>>,
        output: Option<&'a mut [u8]>,
        dtype: DType,
        op: ReduceOp,
        root: usize,
    ) -> Result<(), Error> {
        self.run(Request::Reduce { input: input.into(), output, dtype, op, root })
    }

    /// Every rank's `output` becomes all ranks' inputs, in rank order: `world` times as long as `input`.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`].
    pub fn all_gather<'a>(
        &mut self,
        input: impl Into<Input<'a>>,
        output: &'a mut [u8],
        dtype: DType,
    ) -> Result<(), Error> {
        self.run(Request::AllGather { input: input.into(), output, dtype })
    }

    /// `output` becomes this rank's block of the reduction of all inputs; `input` is `world` times as long. In place,
    /// `output` holds the input and this rank's own block of it becomes the result.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`].
    pub fn reduce_scatter<'a>(
        &mut self,
        input: impl Into<Input<'a>>,
        output: &'a mut [u8],
        dtype: DType,
        op: ReduceOp,
    ) -> Result<(), Error> {
        self.run(Request::ReduceScatter { input: input.into(), output, dtype, op })
    }

    /// Every rank's `buffer` becomes the root's.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`], and a root that does not exist.
    pub fn broadcast(&mut self, buffer: &mut [u8], dtype: DType, root: usize) -> Result<(), Error> {
        self.run(Request::Broadcast { buffer, dtype, root })
    }

    /// The root's `output` becomes all ranks' inputs, in rank order; other ranks pass `None`.
    ///
    /// # Errors
    /// As [`Communicator::reduce`].
    pub fn gather<'a>(
        &mut self,
        input: impl Into<Input<'a>>,
        output: Option<&'a mut [u8]>,
        dtype: DType,
        root: usize,
    ) -> Result<(), Error> {
        self.run(Request::Gather { input: input.into(), output, dtype, root })
    }

    /// `output` becomes this rank's block of the root's `input`; other ranks pass `None`.
    ///
    /// # Errors
    /// As [`Communicator::broadcast`]; a root without an input.
    pub fn scatter(
        &mut self,
        input: Option<&[u8]>,
        output: &mut [u8],
        dtype: DType,
        root: usize,
    ) -> Result<(), Error> {
        self.run(Request::Scatter { input, output, dtype, root })
    }

    /// Block i of `output` becomes rank i's block for this rank.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`].
    pub fn all_to_all(&mut self, input: &[u8], output: &mut [u8], dtype: DType) -> Result<(), Error> {
        self.run(Request::AllToAll { input, output, dtype })
    }

    /// Sends `data` to one rank, which calls [`Communicator::recv`] with a buffer of the same size.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce`], and a peer that does not exist.
    pub fn send(&mut self, data: &[u8], dtype: DType, to: usize) -> Result<(), Error> {
        self.run(Request::Send { data, dtype, to })
    }

    /// Receives into `data` what one rank sends with [`Communicator::send`].
    ///
    /// # Errors
    /// As [`Communicator::send`].
    pub fn recv(&mut self, data: &mut [u8], dtype: DType, from: usize) -> Result<(), Error> {
        self.run(Request::Recv { data, dtype, from })
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// A failure that poisons the communicator.
    pub fn barrier(&mut self) -> Result<(), Error> {
        self.run(Request::Barrier)
    }
}
