//! The system's allocator, counting what each thread asks of it. Who counts makes it the program's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// For `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// What the calling thread has allocated so far, in calls.
pub fn made() -> u64 {
    ALLOCATIONS.get()
}

// SAFETY: every call goes to the system's allocator as it came; a constant thread-local needs no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
