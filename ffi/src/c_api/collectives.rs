//! The operations. Counts are in elements; `input` and `output` lie apart, or are the same pointer where an operation
//! says that it works in place.

use std::ffi::c_void;

use halo_ccl::Input;

use crate::c_api::buffer::{apart, input as read, output as write, size};
use crate::c_api::communicator::Communicator;
use crate::c_api::status::{Status, boundary};
use crate::c_api::types::{DataType, Reduction, dtype as read_dtype, op as read_op};

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
    const NAME: &str = "halo_all_reduce";
    boundary(NAME, || {
        let (dtype, op) = (read_dtype(NAME, dtype)?, read_op(NAME, op)?);
        let bytes = size(NAME, "input", count, dtype)?;
        // SAFETY: as this function's contract says; both pointers are made slices only when they lie apart.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let from = if input == output.cast_const() {
                Input::InPlace
            } else {
                apart(NAME, (input, bytes), (output, bytes))?;
                Input::From(read(NAME, "input", input, bytes)?)
            };
            let output = write(NAME, "output", output, bytes)?;
            this.run(NAME, |open| open.all_reduce(from, output, dtype, op))
        }
    })
}

/// Every rank's `output` becomes all ranks' inputs in rank order: `count` elements of each, `world` times as many in
/// all.
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
    const NAME: &str = "halo_all_gather";
    boundary(NAME, || {
        let dtype = read_dtype(NAME, dtype)?;
        // SAFETY: as this function's contract says.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let block = size(NAME, "input", count, dtype)?;
            let whole = size(NAME, "output", count.saturating_mul(this.world()), dtype)?;
            apart(NAME, (input, block), (output, whole))?;
            let (input, output) = (read(NAME, "input", input, block)?, write(NAME, "output", output, whole)?);
            this.run(NAME, |open| open.all_gather(input, output, dtype))
        }
    })
}

/// `output` becomes this rank's block of the reduction of all ranks' inputs: `count` elements of `world` times as many.
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
    const NAME: &str = "halo_reduce_scatter";
    boundary(NAME, || {
        let (dtype, op) = (read_dtype(NAME, dtype)?, read_op(NAME, op)?);
        // SAFETY: as this function's contract says.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let block = size(NAME, "output", count, dtype)?;
            let whole = size(NAME, "input", count.saturating_mul(this.world()), dtype)?;
            apart(NAME, (input, whole), (output, block))?;
            let (input, output) = (read(NAME, "input", input, whole)?, write(NAME, "output", output, block)?);
            this.run(NAME, |open| open.reduce_scatter(input, output, dtype, op))
        }
    })
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
    const NAME: &str = "halo_broadcast";
    boundary(NAME, || {
        let dtype = read_dtype(NAME, dtype)?;
        let bytes = size(NAME, "buffer", count, dtype)?;
        // SAFETY: as this function's contract says.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let buffer = write(NAME, "buffer", buffer, bytes)?;
            this.run(NAME, |open| open.broadcast(buffer, dtype, root as usize))
        }
    })
}

/// Rank `root`'s `output` becomes all ranks' inputs in rank order: `count` elements of each, `world` times as many in
/// all. On other ranks `output` is not used and may be NULL.
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
    const NAME: &str = "halo_gather";
    boundary(NAME, || {
        let dtype = read_dtype(NAME, dtype)?;
        // SAFETY: as this function's contract says; the output is touched on the root alone.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let block = size(NAME, "input", count, dtype)?;
            let whole = size(NAME, "output", count.saturating_mul(this.world()), dtype)?;
            let output = if this.rank() == root as usize {
                apart(NAME, (input, block), (output, whole))?;
                Some(write(NAME, "output", output, whole)?)
            } else {
                None
            };
            let input = read(NAME, "input", input, block)?;
            this.run(NAME, |open| open.gather(input, output, dtype, root as usize))
        }
    })
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
    const NAME: &str = "halo_send";
    boundary(NAME, || {
        let dtype = read_dtype(NAME, dtype)?;
        let bytes = size(NAME, "data", count, dtype)?;
        // SAFETY: as this function's contract says.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let data = read(NAME, "data", data, bytes)?;
            this.run(NAME, |open| open.send(data, dtype, to as usize))
        }
    })
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
    const NAME: &str = "halo_recv";
    boundary(NAME, || {
        let dtype = read_dtype(NAME, dtype)?;
        let bytes = size(NAME, "data", count, dtype)?;
        // SAFETY: as this function's contract says.
        unsafe {
            let this = Communicator::at(NAME, communicator)?;
            let data = write(NAME, "data", data, bytes)?;
            this.run(NAME, |open| open.recv(data, dtype, from as usize))
        }
    })
}

/// Returns when every rank has called it.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_barrier(communicator: *mut Communicator) -> Status {
    const NAME: &str = "halo_barrier";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        unsafe { Communicator::at(NAME, communicator)? }.run(NAME, halo_ccl::Communicator::barrier)
    })
}
