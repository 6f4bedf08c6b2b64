//! Buffers that all ranks allocate together.

use std::time::Instant;

use halo_fabric::SharedBuffer;

use super::Communicator;
use crate::dtype::DType;
use crate::error::Error;

/// Room for what one rank tells the others.
const RECORD_BYTES: usize = 512;

impl Communicator {
    /// A buffer of `bytes` zeroed bytes, from which operations are done without copies at the sender: ranks of one host
    /// read an input in it where it lies, and over rdma it is registered. All ranks call this together, with the same
    /// size; each drops its buffer when it likes.
    ///
    /// # Errors
    /// Sizes that differ, no memory, or a failure that poisons the communicator.
    pub fn allocate(&mut self, bytes: usize) -> Result<SharedBuffer, Error> {
        let begun = self.mesh.begin_share(bytes);
        // A rank that has failed tells nothing, so that nobody waits for its memory.
        let mut record = begun.as_ref().map_or_else(|_| Vec::new(), |(_, told)| told.clone());
        assert!(record.len() <= RECORD_BYTES, "an invitation is short");
        record.resize(RECORD_BYTES, 0);
        let mut all = vec![0; RECORD_BYTES * self.world()];
        self.all_gather(&record[..], &mut all, DType::U8)?;
        let (sharing, _) = begun?;
        let records: Vec<&[u8]> = all.chunks_exact(RECORD_BYTES).collect();
        if let Some(rank) = records.iter().position(|record| record.iter().all(|byte| *byte == 0)) {
            return Err(Error::NotAllocated { rank, bytes });
        }
        let deadline = Instant::now() + self.config.timeout;
        let shared = self.mesh.share(sharing, &records, deadline);
        shared.map_err(|error| self.fail(error.into()))
    }
}
