//! One operation as C describes it, and the same after every check that pointers and numbers allow.

use std::ffi::c_void;

use halo_ccl::{DType, Input, Request as Operation};

use crate::c_api::buffer::{Span, size};
use crate::c_api::communicator::Place;
use crate::c_api::error::Error;
use crate::c_api::types::{DataType, Reduction, dtype as read_dtype, op as read_op};

/// A kind of operation: one of the `HALO_ALL_REDUCE` ... `HALO_BARRIER` constants.
pub type Kind = u32;

/// As `halo_all_reduce`.
pub const HALO_ALL_REDUCE: Kind = 1;
/// As `halo_reduce`; `peer` is the root.
pub const HALO_REDUCE: Kind = 2;
/// As `halo_all_gather`.
pub const HALO_ALL_GATHER: Kind = 3;
/// As `halo_reduce_scatter`.
pub const HALO_REDUCE_SCATTER: Kind = 4;
/// As `halo_broadcast`; the buffer is `output`, `peer` is the root.
pub const HALO_BROADCAST: Kind = 5;
/// As `halo_gather`; `peer` is the root.
pub const HALO_GATHER: Kind = 6;
/// As `halo_scatter`; `peer` is the root.
pub const HALO_SCATTER: Kind = 7;
/// As `halo_all_to_all`.
pub const HALO_ALL_TO_ALL: Kind = 8;
/// As `halo_send`; the data is `input`, `peer` receives it.
pub const HALO_SEND: Kind = 9;
/// As `halo_recv`; the data goes to `output`, `peer` sends it.
pub const HALO_RECV: Kind = 10;
/// As `halo_barrier`; nothing else is looked at.
pub const HALO_BARRIER: Kind = 11;

/// One operation with its buffers, for `halo_group` and `halo_queue_start`. What an operation does not have is not
/// looked at.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Which operation.
    pub kind: Kind,
    /// What the elements are.
    pub dtype: DataType,
    /// How they are combined.
    pub op: Reduction,
    /// The root, or the other rank of a send or receive.
    pub peer: u32,
    /// Elements of one rank: what it contributes or gets.
    pub count: usize,
    /// What is read.
    pub input: *const c_void,
    /// What is written.
    pub output: *mut c_void,
}

impl Request {
    /// An operation without buffers.
    pub(crate) fn new(kind: Kind, count: usize, dtype: DataType) -> Self {
        let (input, output) = (std::ptr::null(), std::ptr::null_mut());
        Self { kind, dtype, op: 0, peer: 0, count, input, output }
    }
}

/// An operation that passed, and the memory that it touches.
pub(crate) struct Checked<'a> {
    pub(crate) operation: Operation<'a>,
    pub(crate) read: Span,
    pub(crate) written: Span,
}

/// Bytes that an operation reads and writes on this rank, and whether its input lies in its output.
struct Shape {
    input: usize,
    output: usize,
    in_place: bool,
}

/// Checks a request of the rank at `place`.
///
/// # Safety
/// Unless NULL, the request's buffers are as long as the operation says, and nobody else uses them during `'a`.
pub(crate) unsafe fn check<'a>(
    function: &'static str,
    place: Place,
    request: &Request,
) -> Result<Checked<'a>, Error> {
    if request.kind == HALO_BARRIER {
        return Ok(Checked { operation: Operation::Barrier, read: Span::NONE, written: Span::NONE });
    }
    let dtype = read_dtype(function, request.dtype)?;
    let shape = shape(function, place, request, dtype)?;
    let read = Span { address: request.input.addr(), bytes: shape.input };
    let mut written = Span { address: request.output.addr(), bytes: shape.output };
    // SAFETY: as the caller promises; of an input that lies in the output no slice is made.
    let (input, output) = unsafe {
        if shape.in_place && request.kind == HALO_REDUCE_SCATTER {
            // The result lies in the input: that is the buffer.
            written = read;
            (Input::InPlace, read.to_write(function, "input", request.input.cast_mut())?)
        } else if shape.in_place {
            (Input::InPlace, written.to_write(function, "output", request.output)?)
        } else {
            read.apart(function, written)?;
            let input = read.to_read(function, "input", request.input)?;
            (Input::From(input), written.to_write(function, "output", request.output)?)
        }
    };
    let read = if shape.in_place { Span::NONE } else { read };
    let operation = operation(function, place, request, dtype, input, output)?;
    Ok(Checked { operation, read, written })
}

fn shape(function: &'static str, place: Place, request: &Request, dtype: DType) -> Result<Shape, Error> {
    let block = size(function, "count", request.count, dtype)?;
    let whole = || size(function, "count", request.count.saturating_mul(place.world), dtype);
    let (input, output) = (request.input.addr(), request.output.addr());
    let own = place.rank.wrapping_mul(block);
    let root = place.rank == request.peer as usize;
    let shape = |input, output, in_place| Ok(Shape { input, output, in_place });
    match request.kind {
        HALO_ALL_REDUCE => shape(block, block, input == output),
        HALO_REDUCE if root => shape(block, block, input == output),
        HALO_ALL_GATHER => shape(block, whole()?, input == output.wrapping_add(own)),
        HALO_GATHER if root => shape(block, whole()?, input == output.wrapping_add(own)),
        HALO_REDUCE_SCATTER => shape(whole()?, block, output == input.wrapping_add(own)),
        HALO_SCATTER if root => shape(whole()?, block, false),
        HALO_REDUCE | HALO_GATHER | HALO_SEND => shape(block, 0, false),
        HALO_BROADCAST | HALO_SCATTER | HALO_RECV => shape(0, block, false),
        HALO_ALL_TO_ALL => {
            let whole = whole()?;
            shape(whole, whole, false)
        }
        given => {
            let known = "the constants from HALO_ALL_REDUCE (1) to HALO_BARRIER (11)".to_owned();
            Err(Error::UnknownConstant { function, what: "kind of operation", given, known })
        }
    }
}

fn operation<'a>(
    function: &'static str,
    place: Place,
    request: &Request,
    dtype: DType,
    input: Input<'a>,
    output: &'a mut [u8],
) -> Result<Operation<'a>, Error> {
    let peer = request.peer as usize;
    let root = place.rank == peer;
    let op = || read_op(function, request.op);
    let data = match input {
        Input::From(data) => data,
        Input::InPlace => &[],
    };
    Ok(match request.kind {
        HALO_ALL_REDUCE => Operation::AllReduce { input, output, dtype, op: op()? },
        HALO_REDUCE => {
            Operation::Reduce { input, output: root.then_some(output), dtype, op: op()?, root: peer }
        }
        HALO_ALL_GATHER => Operation::AllGather { input, output, dtype },
        HALO_REDUCE_SCATTER => Operation::ReduceScatter { input, output, dtype, op: op()? },
        HALO_BROADCAST => Operation::Broadcast { buffer: output, dtype, root: peer },
        HALO_GATHER => Operation::Gather { input, output: root.then_some(output), dtype, root: peer },
        HALO_SCATTER => Operation::Scatter { input: root.then_some(data), output, dtype, root: peer },
        HALO_ALL_TO_ALL => Operation::AllToAll { input: data, output, dtype },
        HALO_SEND => Operation::Send { data, dtype, to: peer },
        // `shape` has refused every other kind.
        _ => Operation::Recv { data: output, dtype, from: peer },
    })
}
