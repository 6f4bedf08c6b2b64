//! What belongs to one process: after a fork the child begins afresh, and leaves alone what is its parent's.
//!
//! A child has a copy of the parent's memory, and its file descriptors. To give an RDMA object back in the child would take
//! it from the parent; to wait for a lock that another thread of the parent held would be for ever. So everything that
//! is global stands here, behind a pointer that a child replaces.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::connection::caller::Caller;
use super::device::Devices;

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    /// The devices, once they were looked for.
    pub(crate) devices: Mutex<Devices>,
    /// Connections that are being set up, by the number that stands in the core's handle.
    pub(crate) attempts: Mutex<HashMap<u64, Caller>>,
}

static CURRENT: AtomicPtr<Process> = AtomicPtr::new(null_mut());

/// This process's; its parent's is never given back.
pub(crate) fn current() -> &'static Process {
    let id = std::process::id();
    let known = CURRENT.load(Ordering::Acquire);
    // SAFETY: NULL, or leaked below.
    if let Some(process) = unsafe { known.as_ref() }
        && process.id == id
    {
        return process;
    }
    let made = Box::leak(Box::new(Process { id, devices: Mutex::default(), attempts: Mutex::default() }));
    match CURRENT.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => made,
        // Another thread of this process was quicker; its value is of this process, whatever `known` was.
        // SAFETY: not NULL, because it differs from what stood there before; leaked by that thread.
        Err(theirs) => unsafe { &*theirs },
    }
}

/// What the core holds and gives back.
pub(crate) trait Lent {
    /// The process that made it.
    fn process(&self) -> u32;
}

/// Takes something back. What the parent of a fork has made stays the parent's: the child only forgets it.
///
/// # Safety
/// `pointer` was made by `Box::into_raw` of a `Box<T>` and is given back once.
pub(crate) unsafe fn take_back<T: Lent>(pointer: *mut c_void) {
    // SAFETY: the caller's word.
    let lent = unsafe { Box::from_raw(pointer.cast::<T>()) };
    if lent.process() != std::process::id() {
        std::mem::forget(lent);
    }
}
