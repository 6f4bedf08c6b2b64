//! Shared memory: a copy into the other side's slot, then a flag on a cache line of its own.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Side;

/// A slot and its flag.
#[repr(align(128))]
struct Slot {
    flag: AtomicU64,
    payload: Box<[UnsafeCell<u8>]>,
}

// SAFETY: the payload is written only by the one writer, before it raises the flag; the reader writes its own slot, not
// this one, until it has seen the flag. A payload is never read here: noticing it is what is measured.
unsafe impl Sync for Slot {}
// SAFETY: bytes and an atomic may go to any thread.
unsafe impl Send for Slot {}

pub(super) struct Memory {
    source: Vec<u8>,
    theirs: Arc<Slot>,
    ours: Arc<Slot>,
    written: u64,
    seen: u64,
}

/// Two sides, each with the other's slot to write into.
pub(super) fn sides(bytes: usize) -> [Memory; 2] {
    let slot = || {
        let payload = (0..bytes).map(|_| UnsafeCell::new(1)).collect();
        Arc::new(Slot { flag: AtomicU64::new(0), payload })
    };
    let (first, second) = (slot(), slot());
    let side = |ours: &Arc<Slot>, theirs: &Arc<Slot>| Memory {
        source: vec![1; bytes],
        theirs: Arc::clone(theirs),
        ours: Arc::clone(ours),
        written: 0,
        seen: 0,
    };
    [side(&first, &second), side(&second, &first)]
}

impl Side for Memory {
    fn write(&mut self) -> std::io::Result<()> {
        let target = UnsafeCell::raw_get(self.theirs.payload.as_ptr());
        // SAFETY: both are as long as the source, they lie apart, and nobody else writes or reads the target now.
        unsafe { std::ptr::copy_nonoverlapping(self.source.as_ptr(), target, self.source.len()) };
        self.written += 1;
        self.theirs.flag.store(self.written, Ordering::Release);
        Ok(())
    }

    fn wait(&mut self) -> std::io::Result<()> {
        self.seen += 1;
        let mut turns = 0u32;
        while self.ours.flag.load(Ordering::Acquire) < self.seen {
            std::hint::spin_loop();
            turns += 1;
            // Both sides may share one processor.
            if turns.is_multiple_of(10_000) {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}
