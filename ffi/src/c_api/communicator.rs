//! The communicator's life: connect, ask, close, free.

use std::ffi::{CString, c_char};
use std::sync::{Mutex, TryLockError};

use halo_ccl::{Communicator as Open, FabricError};

use crate::c_api::buffer::result;
use crate::c_api::config::Config;
use crate::c_api::error::Error;
use crate::c_api::status::{Status, boundary, text};
use crate::c_api::store::{Callbacks, Store};

/// A group of ranks that run collectives together. Every rank issues the same operations in the same order, from one
/// thread at a time. Destroyed by `halo_communicator_free`.
pub struct Communicator {
    rank: usize,
    world: usize,
    links: Vec<(usize, [CString; 3])>,
    open: Mutex<Option<Open>>,
}

/// What carries payloads to and from one peer. The strings belong to the communicator and live as long as it.
#[repr(C)]
pub struct Link {
    /// The peer's rank.
    pub peer: u32,
    /// Its host.
    pub host: *const c_char,
    /// `shm`, `rdma` or `tcp`.
    pub transport: *const c_char,
    /// Why this transport.
    pub reason: *const c_char,
}

/// Meets the other ranks at the configuration's rendezvous, where rank 0 listens. It returns when all have met, or with
/// an error within the configured timeout.
///
/// `config` stays the caller's. `*communicator` is set on success only, and destroyed by `halo_communicator_free`.
///
/// # Safety
/// `config` is NULL or a configuration that no other thread changes; `communicator` is NULL or points to memory for a
/// pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_connect(
    config: *const Config,
    communicator: *mut *mut Communicator,
) -> Status {
    const NAME: &str = "halo_communicator_connect";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (place, config) = unsafe { (result(NAME, "communicator", communicator)?, config.as_ref()) };
        let config = config.ok_or(Error::Null { function: NAME, argument: "config" })?;
        place.write(Communicator::made(Open::connect(&config.settings)?));
        Ok(())
    })
}

/// As `halo_communicator_connect`, but the ranks meet through a store that the caller serves; the configuration's
/// rendezvous is not used.
///
/// # Safety
/// As `halo_communicator_connect`; `store` is NULL or points to a store whose callbacks keep to its documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_connect_with_store(
    config: *const Config,
    store: *const Store,
    communicator: *mut *mut Communicator,
) -> Status {
    const NAME: &str = "halo_communicator_connect_with_store";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (place, config, store) =
            unsafe { (result(NAME, "communicator", communicator)?, config.as_ref(), store.as_ref()) };
        let config = config.ok_or(Error::Null { function: NAME, argument: "config" })?;
        let store = store.ok_or(Error::Null { function: NAME, argument: "store" })?;
        let callbacks = Callbacks::of(NAME, store)?;
        place.write(Communicator::made(Open::connect_with_store(&config.settings, &callbacks)?));
        Ok(())
    })
}

/// Lets the last bytes leave and says good-bye to the peers. Later calls with this communicator answer
/// `HALO_ERROR_CLOSED`; the handle is still to be freed. It tells the failure that had ended the communicator before,
/// if there was one; a second close does nothing.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_close(communicator: *mut Communicator) -> Status {
    const NAME: &str = "halo_communicator_close";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let taken = unsafe { Communicator::at(NAME, communicator) }?.lock(NAME)?.take();
        Ok(taken.map_or(Ok(()), Open::close)?)
    })
}

/// Destroys a communicator, closing it first if it is open. NULL is allowed and does nothing.
///
/// # Safety
/// `communicator` is NULL or came from a function that made it, no thread is in a call with it, and it is not used
/// again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_free(communicator: *mut Communicator) {
    if communicator.is_null() {
        return;
    }
    // SAFETY: made by Box::into_raw in `made`, and given back once.
    let owned = unsafe { Box::from_raw(communicator) };
    // A panic while closing is remembered like any other; there is nobody here to answer.
    boundary("halo_communicator_free", move || {
        drop(owned);
        Ok(())
    });
}

/// This rank.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `rank` is NULL or points to memory for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_rank(communicator: *const Communicator, rank: *mut u32) -> Status {
    const NAME: &str = "halo_communicator_rank";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "rank", rank)?) };
        place.write(this.rank as u32);
        Ok(())
    })
}

/// The number of ranks.
///
/// # Safety
/// As `halo_communicator_rank`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_world(
    communicator: *const Communicator,
    world: *mut u32,
) -> Status {
    const NAME: &str = "halo_communicator_world";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "world", world)?) };
        place.write(this.world as u32);
        Ok(())
    })
}

/// What carries payloads to and from `peer`, and why.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `link` is NULL or points to memory for a link.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_link(
    communicator: *const Communicator,
    peer: u32,
    link: *mut Link,
) -> Status {
    const NAME: &str = "halo_communicator_link";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "link", link)?) };
        let found = this.links.iter().find(|(rank, _)| *rank == peer as usize);
        let (_, [host, transport, reason]) = found.ok_or_else(|| halo_ccl::Error::BadRank {
            operation: NAME,
            given: peer as usize,
            expected: format!("another rank of world {}", this.world),
        })?;
        place.write(Link {
            peer,
            host: host.as_ptr(),
            transport: transport.as_ptr(),
            reason: reason.as_ptr(),
        });
        Ok(())
    })
}

/// What this communicator has done so far, as JSON: operations with counts, bytes and latencies, links with bytes.
///
/// `*json` is set on success only, and destroyed by `halo_string_free`.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `json` is NULL or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_statistics(
    communicator: *mut Communicator,
    json: *mut *mut c_char,
) -> Status {
    const NAME: &str = "halo_communicator_statistics";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "json", json)?) };
        let statistics = this.run(NAME, |open| Ok(open.statistics()))?;
        let statistics = serde_json::to_string(&statistics).expect("statistics are plain data");
        place.write(text(statistics).into_raw());
        Ok(())
    })
}

/// Destroys a string that a function of this library made. NULL is allowed and does nothing.
///
/// # Safety
/// `string` is NULL or came from a function that says so, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_string_free(string: *mut c_char) {
    if !string.is_null() {
        // SAFETY: made by CString::into_raw, and given back once.
        drop(unsafe { CString::from_raw(string) });
    }
}

impl Communicator {
    fn made(open: Open) -> *mut Self {
        let links = open.links().iter().map(|link| {
            (link.peer, [text(link.host.as_str()), text(link.transport.name()), text(link.reason.as_str())])
        });
        let (rank, world, links) = (open.rank(), open.world(), links.collect());
        Box::into_raw(Box::new(Self { rank, world, links, open: Mutex::new(Some(open)) }))
    }

    /// The communicator behind a pointer from C.
    ///
    /// # Safety
    /// `pointer` is NULL or a communicator that is not freed during `'a`.
    pub(crate) unsafe fn at<'a>(function: &'static str, pointer: *const Self) -> Result<&'a Self, Error> {
        // SAFETY: the caller promises it.
        unsafe { pointer.as_ref() }.ok_or(Error::Null { function, argument: "communicator" })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn world(&self) -> usize {
        self.world
    }

    /// Another thread inside is the program's error and never waited for: which operation came first would be chance.
    fn lock(&self, function: &'static str) -> Result<std::sync::MutexGuard<'_, Option<Open>>, Error> {
        self.open.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Busy { function },
            TryLockError::Poisoned(_) => {
                Error::Panic { function, message: "an earlier call with this communicator did".to_owned() }
            }
        })
    }

    /// Runs one operation of an open communicator.
    pub(crate) fn run<T>(
        &self,
        function: &'static str,
        work: impl FnOnce(&mut Open) -> Result<T, halo_ccl::Error>,
    ) -> Result<T, Error> {
        let mut open = self.lock(function)?;
        Ok(work(open.as_mut().ok_or(FabricError::Closed)?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::c_api::status::{HALO_ERROR_BUSY, HALO_ERROR_PANIC, halo_error_message};

    /// A communicator of one rank needs nobody.
    fn alone() -> *mut Communicator {
        Communicator::made(Open::connect(&halo_ccl::Config::new(0, 1)).unwrap())
    }

    fn last_message() -> String {
        // SAFETY: it ends with zero and is valid until the next failure of this thread.
        unsafe { CStr::from_ptr(halo_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_second_thread_is_told_so_at_once() {
        let handle = alone();
        // SAFETY: freed at the end only.
        unsafe {
            let inside = (*handle).open.lock().unwrap();
            assert_eq!(halo_communicator_close(handle), HALO_ERROR_BUSY);
            drop(inside);
            assert_eq!(halo_communicator_close(handle), 0);
            halo_communicator_free(handle);
        }
    }

    #[test]
    fn a_communicator_that_panicked_is_never_used_again() {
        let handle = alone();
        // SAFETY: freed at the end only.
        unsafe {
            let this = &*handle;
            let status =
                boundary("halo_test", || this.run("halo_test", |_| -> Result<(), _> { panic!("inside") }));
            assert_eq!(status, HALO_ERROR_PANIC);
            assert_eq!(halo_communicator_close(handle), HALO_ERROR_PANIC);
            assert!(last_message().contains("an earlier call"), "{}", last_message());
            halo_communicator_free(handle);
        }
    }
}
