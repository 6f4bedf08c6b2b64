//! Memory as tensors have it.

use std::ops::{Deref, DerefMut};

/// Bytes at an address that is a multiple of a cache line: PyTorch's tensors begin so, and the slots of an arena.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Buffer {
    /// Written once: pages that never were would all be one page of zeros.
    pub fn new(bytes: usize) -> Self {
        const LINE: usize = 64;
        let memory = vec![1; bytes + LINE];
        let start = memory.as_ptr().align_offset(LINE);
        Self { memory, start, bytes }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..][..self.bytes]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.bytes]
    }
}
