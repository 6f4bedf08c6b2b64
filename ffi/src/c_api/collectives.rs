//! The operations, one function each: they return when this rank's part is done. Counts are in elements; input and
//! output lie apart, or coincide where an operation says that it works in place. What they check is in `request`.

use std::ffi::c_void;

use crate::c_api::buffer::all_apart;
use crate::c_api::communicator::Communicator;
use crate::c_api::error::Error;
use crate::c_api::request::{
    HALO_ALL_GATHER, HALO_ALL_REDUCE, HALO_ALL_TO_ALL, HALO_BARRIER, HALO_BROADCAST, HALO_GATHER, HALO_RECV,
    HALO_REDUCE, HALO_REDUCE_SCATTER, HALO_SCATTER, HALO_SEND, Request, check,
};
use crate::c_api::status::{Status, boundary};
use crate::c_api::types::{DataType, HALO_DTYPE_U8, Reduction};

/// Every rank's `output` becomes the reduction of all ranks' inputs: `count` elements each. In place when `input` and
/// `output` are the same pointer.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `input` and `output` point to `count` elements that
/// nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_all_reduce(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
    op: Reduction,
) -> Status {
    let request = Request { op, input, output, ..Request::new(HALO_ALL_REDUCE, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_all_reduce", communicator, &request) }
}

/// Rank `root`'s `output` becomes the reduction of all ranks' inputs: `count` elements each. On other ranks `output` is
/// not used and may be NULL; on the root it may be the same pointer as `input`.
///
/// # Safety
/// As `halo_all_reduce`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_reduce(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
    op: Reduction,
    root: u32,
) -> Status {
    let request = Request { input, output, op, peer: root, ..Request::new(HALO_REDUCE, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_reduce", communicator, &request) }
}

/// Every rank's `output` becomes all ranks' inputs in rank order: `count` elements of each, `world` times as many in
/// all. In place when `input` is this rank's own block of `output`.
///
/// # Safety
/// As `halo_all_reduce`, with these lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_all_gather(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
) -> Status {
    let request = Request { input, output, ..Request::new(HALO_ALL_GATHER, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_all_gather", communicator, &request) }
}

/// `output` becomes this rank's block of the reduction of all ranks' inputs: `count` elements of `world` times as many.
/// In place when `output` is this rank's own block of `input`.
///
/// # Safety
/// As `halo_all_reduce`, with these lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_reduce_scatter(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
    op: Reduction,
) -> Status {
    let request = Request { op, input, output, ..Request::new(HALO_REDUCE_SCATTER, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_reduce_scatter", communicator, &request) }
}

/// Every rank's `buffer` of `count` elements becomes that of rank `root`.
///
/// # Safety
/// As `halo_all_reduce`, with this buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_broadcast(
    communicator: *mut Communicator,
    buffer: *mut c_void,
    count: usize,
    dtype: DataType,
    root: u32,
) -> Status {
    let request = Request { output: buffer, peer: root, ..Request::new(HALO_BROADCAST, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_broadcast", communicator, &request) }
}

/// Rank `root`'s `output` becomes all ranks' inputs in rank order: `count` elements of each, `world` times as many in
/// all. On other ranks `output` is not used and may be NULL; on the root `input` may be its own block of `output`.
///
/// # Safety
/// As `halo_all_reduce`, with these lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_gather(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
    root: u32,
) -> Status {
    let request = Request { input, output, peer: root, ..Request::new(HALO_GATHER, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_gather", communicator, &request) }
}

/// `output` becomes this rank's block of rank `root`'s input: `count` elements of `world` times as many. On other ranks
/// `input` is not used and may be NULL.
///
/// # Safety
/// As `halo_all_reduce`, with these lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_scatter(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
    root: u32,
) -> Status {
    let request = Request { input, output, peer: root, ..Request::new(HALO_SCATTER, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_scatter", communicator, &request) }
}

/// Block i of `output` becomes rank i's block for this rank: `count` elements for and from each rank, `world` times as
/// many in both buffers.
///
/// # Safety
/// As `halo_all_reduce`, with these lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_all_to_all(
    communicator: *mut Communicator,
    input: *const c_void,
    output: *mut c_void,
    count: usize,
    dtype: DataType,
) -> Status {
    let request = Request { input, output, ..Request::new(HALO_ALL_TO_ALL, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_all_to_all", communicator, &request) }
}

/// Sends `count` elements to rank `to`, which calls `halo_recv` with the same count and type.
///
/// # Safety
/// As `halo_all_reduce`, with this buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_send(
    communicator: *mut Communicator,
    data: *const c_void,
    count: usize,
    dtype: DataType,
    to: u32,
) -> Status {
    let request = Request { input: data, peer: to, ..Request::new(HALO_SEND, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_send", communicator, &request) }
}

/// Receives `count` elements that rank `from` sends with `halo_send`.
///
/// # Safety
/// As `halo_all_reduce`, with this buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_recv(
    communicator: *mut Communicator,
    data: *mut c_void,
    count: usize,
    dtype: DataType,
    from: u32,
) -> Status {
    let request = Request { output: data, peer: from, ..Request::new(HALO_RECV, count, dtype) };
    // SAFETY: as this function's contract says.
    unsafe { run("halo_recv", communicator, &request) }
}

/// Returns when every rank has called it.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_barrier(communicator: *mut Communicator) -> Status {
    let request = Request::new(HALO_BARRIER, 0, HALO_DTYPE_U8);
    // SAFETY: as this function's contract says.
    unsafe { run("halo_barrier", communicator, &request) }
}

/// Does `length` operations, as one where that is faster: small all-reduces of one type and reduction travel together,
/// and sends and receives run all at once, so that their order cannot make ranks wait for each other. Every rank passes
/// the same collectives in the same order. No operation may write what another one reads or writes. Arguments are
/// checked before anything is done.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `requests` points to `length` requests whose buffers
/// nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_group(
    communicator: *mut Communicator,
    requests: *const Request,
    length: usize,
) -> Status {
    const NAME: &str = "halo_group";
    boundary(NAME, || {
        if length == 0 {
            return Ok(());
        }
        if requests.is_null() {
            return Err(Error::Null { function: NAME, argument: "requests" });
        }
        // SAFETY: as this function's contract says.
        let (this, operations) = unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let requests = std::slice::from_raw_parts(requests, length).iter();
            (this, requests.map(|request| check(NAME, this.place(), request)).collect::<Result<Vec<_>, _>>()?)
        };
        let spans = operations.iter().flat_map(|checked| [(checked.read, false), (checked.written, true)]);
        all_apart(NAME, spans)?;
        this.run(NAME, |open| open.group(operations.into_iter().map(|checked| checked.operation)))
    })
}

/// Checks a request and does it.
///
/// # Safety
/// As the operation's function says.
unsafe fn run(function: &'static str, communicator: *mut Communicator, request: &Request) -> Status {
    boundary(function, || {
        // SAFETY: the caller promises it.
        let (this, checked) = unsafe {
            let this = Communicator::at(function, communicator)?;
            (this, check(function, this.place(), request)?)
        };
        this.run(function, |open| open.run(checked.operation))
    })
}
