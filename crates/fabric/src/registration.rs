//! Memory of the caller's that is registered with the NIC, so that payloads are read and written where they lie.

use std::sync::{Arc, Weak};

use crate::rdma::Memory;

/// Memory registered with [`crate::Mesh::register`]. Dropping it gives the registration back; an operation under way
/// that still uses it keeps it until it is complete.
#[derive(Debug)]
pub struct Registration {
    start: usize,
    bytes: usize,
    /// None where no link of this rank makes use of it.
    held: Option<Arc<Held<Memory>>>,
}

impl Registration {
    pub(crate) fn new(start: usize, bytes: usize, held: Option<Arc<Held<Memory>>>) -> Self {
        Self { start, bytes, held }
    }

    /// The address of the first byte.
    pub fn address(&self) -> usize {
        self.start
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a NIC uses it. Over tcp and shm nothing is registered, and nothing needs to be.
    pub fn is_used(&self) -> bool {
        self.held.is_some()
    }
}

/// What a registration holds. Several may share the memory region of the largest.
#[derive(Debug)]
pub(crate) struct Held<T> {
    memory: Arc<T>,
    /// Where that begins.
    origin: usize,
}

/// One run of memory, known as long as its registration is held: the rest of a region that it shares may have been freed.
#[derive(Debug)]
struct Known<T> {
    start: usize,
    bytes: usize,
    held: Weak<Held<T>>,
}

/// What is registered on this rank, by address.
#[derive(Debug)]
pub(crate) struct Registry<T = Memory> {
    known: Vec<Known<T>>,
}

impl<T> Registry<T> {
    pub(crate) fn new() -> Self {
        Self { known: Vec::new() }
    }

    /// Whether nothing has ever been registered, or nothing since the last look was.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The registered memory in which `bytes` bytes at `start` lie, and where in it. Few runs are registered, and only
    /// long payloads are looked for, so they are simply tried one after the other.
    pub(crate) fn find(&self, start: usize, bytes: usize) -> Option<(Arc<T>, usize)> {
        let end = start.checked_add(bytes)?;
        let holds = |known: &&Known<T>| known.start <= start && end <= known.start + known.bytes;
        // A run that was given back may be followed by another one at its address.
        self.known.iter().filter(holds).find_map(|known| {
            known.held.upgrade().map(|held| (Arc::clone(&held.memory), start - held.origin))
        })
    }

    /// Adds `bytes` bytes from `start`, which lie `offset` bytes into registered memory; what has been given back is
    /// forgotten.
    pub(crate) fn add(&mut self, start: usize, bytes: usize, memory: Arc<T>, offset: usize) -> Arc<Held<T>> {
        let held = Arc::new(Held { memory, origin: start - offset });
        self.known.retain(|known| known.held.strong_count() > 0);
        self.known.push(Known { start, bytes, held: Arc::downgrade(&held) });
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_known_while_its_registration_is_held_and_no_longer() {
        let mut registry = Registry::new();
        let memory = Arc::new("first");
        let whole = registry.add(1000, 100, Arc::clone(&memory), 0);
        let (shared, offset) = registry.find(1040, 10).unwrap();
        assert_eq!(offset, 40);
        let part = registry.add(1040, 10, shared, offset);
        drop(whole);
        assert!(registry.find(1039, 2).is_none(), "what only the whole one held may have been freed");
        let (used, offset) = registry.find(1041, 9).unwrap();
        assert_eq!(offset, 41);
        drop(part);
        assert!(registry.find(1041, 9).is_none() && !registry.is_empty());
        assert_eq!(Arc::strong_count(&memory), 2, "an operation under way keeps the region");
        drop(used);
        let _second = registry.add(1000, 50, Arc::new("second"), 0);
        assert_eq!(registry.known.len(), 1, "what was given back is forgotten");
        assert_eq!(registry.find(1049, 1).map(|(memory, at)| (*memory, at)), Some(("second", 49)));
    }

    proptest! {
        /// What is found holds every byte, and nothing that holds them all is missed.
        #[test]
        fn what_is_found_holds_every_byte(runs in proptest::collection::vec((0usize..500, 1usize..200), 1..8), start in 0usize..700, bytes in 0usize..200) {
            let mut registry = Registry::new();
            let _held: Vec<_> = runs.iter().map(|run| registry.add(run.0, run.1, Arc::new(*run), 0)).collect();
            let holds = |run: &(usize, usize)| run.0 <= start && start + bytes <= run.0 + run.1;
            match registry.find(start, bytes) {
                Some((run, at)) => prop_assert!(holds(&run) && run.0 + at == start),
                None => prop_assert!(!runs.iter().any(holds)),
            }
        }
    }
}
