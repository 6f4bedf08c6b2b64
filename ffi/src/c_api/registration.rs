//! Memory of the program's that is registered with the NIC.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use halo_ccl::Registration;

use crate::c_api::buffer::result;
use crate::c_api::communicator::Communicator;
use crate::c_api::error::Error;
use crate::c_api::status::{Status, boundary};

/// What a communicator's program has registered, by the numbers it was given: one that is used twice is an error.
#[derive(Default)]
pub(crate) struct Registrations(Mutex<(u64, BTreeMap<u64, Registration>)>);

impl Registrations {
    fn add(&self, registration: Registration) -> u64 {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 += 1;
        let number = held.0;
        held.1.insert(number, registration);
        number
    }

    fn remove(&self, number: u64) -> Option<Registration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number)
    }
}

/// Registers `bytes` bytes from `start` with the NIC, for as long as it takes. Over rdma, long payloads that lie there
/// are then written from where they lie, and peers write their parts of gathered and broadcast outputs straight there.
/// Each rank registers what it likes, when it likes. The same memory again, or part of it, costs a look-up. Over shm and
/// tcp this is accepted and does nothing.
///
/// `*registration` is set on success only, to a number for `halo_communicator_deregister`; freeing the communicator gives
/// back what is left. An error (no memory at all, the memlock limit, a NIC that refuses) harms nothing: the communicator
/// goes on working without it.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `registration` is NULL or points to memory for a number.
/// The memory is readable and writable and stays mapped until it is deregistered; what an operation was given of it is
/// left alone until that operation has ended. After a failed operation its contents are undefined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_register(
    communicator: *mut Communicator,
    start: *mut c_void,
    bytes: usize,
    registration: *mut u64,
) -> Status {
    const NAME: &str = "halo_communicator_register";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) =
            unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "registration", registration)?) };
        // SAFETY: as this function's contract says.
        let held = this.run(NAME, |open| unsafe { open.register(start.cast(), bytes) })?;
        place.write(this.registrations().add(held));
        Ok(())
    })
}

/// Gives a registration back, before its memory is freed. An operation of a queue that uses it keeps it until it is done.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_deregister(
    communicator: *mut Communicator,
    registration: u64,
) -> Status {
    const NAME: &str = "halo_communicator_deregister";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let this = unsafe { Communicator::at(NAME, communicator) }?;
        let held = this.registrations().remove(registration);
        held.map(drop).ok_or(Error::UnknownRegistration { function: NAME, registration })
    })
}
