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
        // A rank that has failed says so: nobody waits for its memory.
        let told = match &begun {
            Ok((_, told)) => told.clone(),
            Err(_) => Vec::new(),
        };
        let mut record = vec![told.len() as u8, (told.len() >> 8) as u8];
        record.extend(&told);
        assert!(record.len() <= RECORD_BYTES, "an invitation is short");
        record.resize(RECORD_BYTES, 0);
        let mut all = vec![0; RECORD_BYTES * self.world()];
        self.all_gather(&record[..], &mut all, DType::U8)?;
        let (sharing, _) = begun?;
        let records = all.chunks_exact(RECORD_BYTES);
        let told = |record| -> &[u8] {
            let record: &[u8] = record;
            let length = usize::from(record[0]) | usize::from(record[1]) << 8;
            record.get(2..2 + length).unwrap_or_default()
        };
        let invitations: Vec<_> = records.map(told).collect();
        if let Some(rank) = invitations.iter().position(|told| told.is_empty()) {
            return Err(Error::NotAllocated { rank, bytes });
        }
        let deadline = Instant::now() + self.config.timeout;
        let shared = self.mesh.share(sharing, &invitations, deadline);
        shared.map_err(|error| self.fail(error.into()))
    }
}
