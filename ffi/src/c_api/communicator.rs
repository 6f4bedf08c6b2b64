//! The communicator's life: connect, ask, close, free.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use halo_ccl::Communicator as Open;

use crate::c_api::allocation::Allocations;
use crate::c_api::buffer::result;
use crate::c_api::config::Config;
use crate::c_api::error::Error;
use crate::c_api::registration::Registrations;
use crate::c_api::shared::Shared;
use crate::c_api::status::{Status, boundary, text};
use crate::c_api::store::{Callbacks, Store};

/// A group of ranks that run collectives together. Every rank issues the same operations in the same order, from one
/// thread at a time. Destroyed by `halo_communicator_free`.
pub struct Communicator {
    place: Place,
    links: Vec<(usize, [CString; 3])>,
    shared: Arc<Shared>,
}

/// A rank among how many: what a request's counts depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) rank: usize,
    pub(crate) world: usize,
}

/// The color of a rank that gets no communicator from `halo_communicator_split`.
pub const HALO_NO_COLOR: u32 = u32::MAX;

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
        let taken = unsafe { Communicator::at(NAME, communicator) }?.shared.close(NAME)?;
        Ok(taken.map_or(Ok(()), |open| open.close())?)
    })
}

/// Destroys a communicator, closing it first if it is open, and gives back its memory. If a queue of it is open, that
/// happens when the queue is freed. NULL is allowed and does nothing.
///
/// # Safety
/// `communicator` is NULL or came from a function that made it, no thread is in a call with it, and it is not used
/// again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_free(communicator: *mut Communicator) {
    if communicator.is_null() {
        return;
    }
    // SAFETY: made by Box::into_raw in `made` below, and given back once.
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
        place.write(this.place.rank as u32);
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
        place.write(this.place.world as u32);
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
            expected: format!("another rank of world {}", this.place.world),
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

/// Divides the ranks: those that give the same `color` form a communicator of their own, ordered by `key` and, where
/// keys are equal, by rank. Every rank calls it; one that gives `HALO_NO_COLOR` gets NULL. Both communicators live on,
/// independently of each other.
///
/// `*part` is set on success only, and destroyed by `halo_communicator_free`.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `part` is NULL or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_communicator_split(
    communicator: *mut Communicator,
    color: u32,
    key: i64,
    part: *mut *mut Communicator,
) -> Status {
    const NAME: &str = "halo_communicator_split";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "part", part)?) };
        let color = (color != HALO_NO_COLOR).then_some(color);
        let open = this.run(NAME, |open| open.split(color, key))?;
        place.write(open.map_or(std::ptr::null_mut(), Communicator::made));
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
        let place = Place { rank: open.rank(), world: open.world() };
        let links = links.collect();
        let shared = Arc::new(Shared::new(open));
        Box::into_raw(Box::new(Self { place, links, shared }))
    }

    /// The communicator behind a pointer from C.
    ///
    /// # Safety
    /// `pointer` is NULL or a communicator that is not freed during `'a`.
    pub(crate) unsafe fn at<'a>(function: &'static str, pointer: *const Self) -> Result<&'a Self, Error> {
        // SAFETY: the caller promises it.
        unsafe { pointer.as_ref() }.ok_or(Error::Null { function, argument: "communicator" })
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn registrations(&self) -> &Registrations {
        &self.shared.registrations
    }

    pub(crate) fn allocations(&self) -> &Allocations {
        &self.shared.allocations
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs one operation of an open communicator.
    pub(crate) fn run<T>(
        &self,
        function: &'static str,
        work: impl FnOnce(&mut Open) -> Result<T, halo_ccl::Error>,
    ) -> Result<T, Error> {
        self.shared.run(function, work)
    }
}
