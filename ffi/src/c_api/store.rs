//! A store that the C program serves, where ranks leave their greetings instead of at rank 0's rendezvous.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::{Duration, Instant};

use halo_ccl::{Store as Bootstrap, StoreError};

use crate::c_api::error::Error;

/// The callback did what was asked.
pub const HALO_STORE_OK: c_int = 0;
/// `get`: nobody has written the key yet.
pub const HALO_STORE_ABSENT: c_int = 1;
/// `set`: the key has a value already, which stays.
pub const HALO_STORE_TAKEN: c_int = 2;

/// How often an absent key is looked for. Bootstrap happens once; a store over the network is not to be flooded.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// Room for a greeting at the first try.
const USUAL_BYTES: usize = 4096;

/// A key-value store that all ranks of a communicator share, such as the one a job launcher already has. Both
/// callbacks are called by the thread that connects, before `halo_communicator_connect_with_store` returns. Keys are
/// text that ends with zero; they are the same for every communicator, so the callbacks add a prefix where
/// communicators share a store. Any other result than those above is a failure of the store.
#[repr(C)]
pub struct Store {
    /// Given to both callbacks as it is.
    pub context: *mut c_void,
    /// Leaves `length` bytes under `key`, for good: `HALO_STORE_OK`, `HALO_STORE_TAKEN`, or a failure.
    pub set: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            key: *const c_char,
            value: *const u8,
            length: usize,
        ) -> c_int,
    >,
    /// Copies the value of `key` into `value` if it has no more than `capacity` bytes, and tells its length in
    /// `*length` in any case: `HALO_STORE_OK`, `HALO_STORE_ABSENT`, or a failure. It does not wait; it is called again
    /// until the deadline passes.
    pub get: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            key: *const c_char,
            value: *mut u8,
            capacity: usize,
            length: *mut usize,
        ) -> c_int,
    >,
}

/// Both callbacks, known to be there.
pub(crate) struct Callbacks {
    context: *mut c_void,
    set: unsafe extern "C" fn(*mut c_void, *const c_char, *const u8, usize) -> c_int,
    get: unsafe extern "C" fn(*mut c_void, *const c_char, *mut u8, usize, *mut usize) -> c_int,
}

// SAFETY: the fabric calls a store only from the thread that connects, as its documentation for C says; nothing here
// is shared with another thread.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(crate) fn of(function: &'static str, store: &Store) -> Result<Self, Error> {
        let set = store.set.ok_or(Error::Null { function, argument: "store->set" })?;
        let get = store.get.ok_or(Error::Null { function, argument: "store->get" })?;
        Ok(Self { context: store.context, set, get })
    }

    fn look(&self, key: &CStr) -> Result<Option<Vec<u8>>, StoreError> {
        let mut value = vec![0; USUAL_BYTES];
        loop {
            let mut length = 0;
            // SAFETY: the caller gave this callback for these arguments; `value` has the capacity that is told.
            let answer = unsafe {
                (self.get)(self.context, key.as_ptr(), value.as_mut_ptr(), value.len(), &raw mut length)
            };
            match answer {
                HALO_STORE_OK if length <= value.len() => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                // Once more with the room it says it needs.
                HALO_STORE_OK => value.resize(length, 0),
                HALO_STORE_ABSENT => return Ok(None),
                other => return Err(failed("get", other)),
            }
        }
    }
}

impl Bootstrap for Callbacks {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let key = CString::new(key).expect("keys hold no zero byte");
        // SAFETY: the caller gave this callback for these arguments.
        match unsafe { (self.set)(self.context, key.as_ptr(), value.as_ptr(), value.len()) } {
            HALO_STORE_OK => Ok(()),
            HALO_STORE_TAKEN => Err(StoreError::Taken(self.look(&key)?.unwrap_or_default())),
            other => Err(failed("set", other)),
        }
    }

    fn get(&self, key: &str, deadline: Instant) -> Result<Vec<u8>, StoreError> {
        let key = CString::new(key).expect("keys hold no zero byte");
        loop {
            match self.look(&key)? {
                Some(value) => return Ok(value),
                None if Instant::now() >= deadline => return Err(StoreError::Absent),
                None => std::thread::sleep(BETWEEN_LOOKS),
            }
        }
    }
}

fn failed(callback: &str, answer: c_int) -> StoreError {
    StoreError::Failed(format!("the store's {callback} callback answered {answer}"))
}
