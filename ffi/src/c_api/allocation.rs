//! Memory that all ranks allocate together.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use halo_ccl::SharedBuffer;

use crate::c_api::buffer::result;
use crate::c_api::communicator::Communicator;
use crate::c_api::error::Error;
use crate::c_api::status::{Status, boundary};

/// What a communicator's program has allocated, by address.
#[derive(Default)]
pub(crate) struct Allocations(Mutex<BTreeMap<usize, SharedBuffer>>);

impl Allocations {
    fn add(&self, mut buffer: SharedBuffer) -> *mut c_void {
        let start: *mut c_void = buffer.as_mut_ptr().cast();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(start.addr(), buffer);
        start
    }

    fn remove(&self, address: usize) -> Option<SharedBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address)
    }
}

/// Allocates `bytes` zeroed bytes on every rank, for inputs and outputs: ranks of one host read an input there where it
/// lies, and over rdma it is registered. Every rank calls it, with the same size, as it calls an operation.
///
/// `*memory` is set on success only. It is given back by `halo_communicator_deallocate`, or with the communicator by
/// `halo_communicator_free`; each rank gives its own back when it likes.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `memory` is NULL or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_allocate(
    communicator: *mut Communicator,
    bytes: usize,
    memory: *mut *mut c_void,
) -> Status {
    const NAME: &str = "halo_communicator_allocate";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) =
            unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "memory", memory)?) };
        let buffer = this.run(NAME, |open| open.allocate(bytes))?;
        place.write(this.allocations().add(buffer));
        Ok(())
    })
}

/// Gives back what `halo_communicator_allocate` has allocated. NULL is allowed and does nothing.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed. No operation uses the memory any more, not even one of a
/// queue, and it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_deallocate(
    communicator: *mut Communicator,
    memory: *mut c_void,
) -> Status {
    const NAME: &str = "halo_communicator_deallocate";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let this = unsafe { Communicator::at(NAME, communicator) }?;
        if memory.is_null() {
            return Ok(());
        }
        let held = this.allocations().remove(memory.addr());
        held.map(drop).ok_or(Error::UnknownAllocation { function: NAME, address: memory.addr() })
    })
}
