//! Work requests: what the NIC is asked to do, built without allocation and linked at the post.

use crate::error::Error;
use crate::memory::MemoryRegion;
use crate::sys;

/// A place in a peer's registered memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Address as the peer knows it.
    pub address: u64,
    /// The peer's key for it.
    pub key: u32,
}

/// What a work request sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data {
    /// Part of registered memory.
    Registered(sys::ibv_sge),
    /// Part of registered memory that the processor copies into the request.
    Copied(sys::ibv_sge),
    /// Eight bytes that travel in the request itself.
    Inline([u8; 8]),
    /// No bytes.
    Nothing,
}

/// One RDMA write, or one read.
#[derive(Debug, Clone, Copy)]
pub struct WorkRequest {
    pub(crate) data: Data,
    pub(crate) read: bool,
    pub(crate) remote: Remote,
    pub(crate) immediate: Option<u32>,
    pub(crate) id: u64,
    pub(crate) signaled: bool,
}

impl WorkRequest {
    /// Writes `bytes` bytes at `offset` of a memory region.
    ///
    /// # Errors
    /// They do not lie within it.
    pub fn write(region: &MemoryRegion, offset: usize, bytes: usize, remote: Remote) -> Result<Self, Error> {
        let data = Data::Registered(region.part(offset, bytes)?);
        Ok(Self { data, read: false, remote, immediate: None, id: 0, signaled: false })
    }

    /// Reads `bytes` bytes of a peer's memory to `offset` of a memory region.
    ///
    /// # Errors
    /// They do not lie within it.
    pub fn read(region: &MemoryRegion, offset: usize, bytes: usize, remote: Remote) -> Result<Self, Error> {
        Ok(Self { read: true, ..Self::write(region, offset, bytes, remote)? })
    }

    /// Writes eight bytes that are in the request itself: the cheapest write there is.
    pub fn write_inline(value: u64, remote: Remote) -> Self {
        let data = Data::Inline(value.to_ne_bytes());
        Self { data, read: false, remote, immediate: None, id: 0, signaled: false }
    }

    /// Writes no bytes, for the immediate value that goes with it.
    pub fn empty(remote: Remote) -> Self {
        Self { data: Data::Nothing, read: false, remote, immediate: None, id: 0, signaled: false }
    }

    /// Has the processor copy the bytes into the request, which saves the NIC a read of memory. They may change as soon
    /// as the request is posted. At most the queue pair's `inline_bytes`.
    #[must_use]
    pub fn inlined(self) -> Self {
        match self.data {
            Data::Registered(segment) => Self { data: Data::Copied(segment), ..self },
            Data::Copied(_) | Data::Inline(_) | Data::Nothing => self,
        }
    }

    /// Also gives the peer a completion with this value; it takes one of the peer's posted receives.
    #[must_use]
    pub fn with_immediate(self, value: u32) -> Self {
        Self { immediate: Some(value), ..self }
    }

    /// Asks for a completion with this number when it succeeds; failures are always reported.
    #[must_use]
    pub fn signaled(self, id: u64) -> Self {
        Self { id, signaled: true, ..self }
    }

    /// The request as libibverbs takes it. `segment` is its scatter-gather entry and `inline` its inline data; both
    /// must stay where they are until the post.
    pub(crate) fn lower(&self, segment: &mut sys::ibv_sge, inline: &mut [u8; 8]) -> sys::ibv_send_wr {
        let mut flags = if self.signaled { sys::IBV_SEND_SIGNALED } else { 0 };
        *segment = match self.data {
            Data::Registered(segment) => segment,
            Data::Copied(segment) => {
                flags |= sys::IBV_SEND_INLINE;
                segment
            }
            Data::Inline(bytes) => {
                flags |= sys::IBV_SEND_INLINE;
                *inline = bytes;
                sys::ibv_sge { addr: inline.as_ptr() as u64, length: 8, lkey: 0 }
            }
            Data::Nothing => sys::ibv_sge::default(),
        };
        let mut request = sys::ibv_send_wr {
            wr_id: self.id,
            sg_list: segment,
            num_sge: i32::from(!matches!(self.data, Data::Nothing)),
            opcode: if self.read { sys::IBV_WR_RDMA_READ } else { sys::IBV_WR_RDMA_WRITE },
            send_flags: flags,
            ..sys::ibv_send_wr::default()
        };
        request.wr.rdma.remote_addr = self.remote.address;
        request.wr.rdma.rkey = self.remote.key;
        if let Some(value) = self.immediate {
            request.opcode = sys::IBV_WR_RDMA_WRITE_WITH_IMM;
            request.__bindgen_anon_1.imm_data = value.to_be();
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_lowered_with_every_field() {
        let remote = Remote { address: 0x1234, key: 77 };
        let (mut segment, mut inline) = (sys::ibv_sge::default(), [0; 8]);
        let request = WorkRequest::write_inline(9, remote)
            .signaled(5)
            .with_immediate(1)
            .lower(&mut segment, &mut inline);
        assert_eq!(request.opcode, sys::IBV_WR_RDMA_WRITE_WITH_IMM);
        assert_eq!(request.send_flags, sys::IBV_SEND_SIGNALED | sys::IBV_SEND_INLINE);
        assert_eq!((request.wr_id, request.num_sge), (5, 1));
        assert_eq!((segment.length, segment.addr), (8, inline.as_ptr() as u64));
        assert_eq!(u64::from_ne_bytes(inline), 9);
        // SAFETY: written by `lower` as these members.
        let (rdma, immediate) = unsafe { (request.wr.rdma, request.__bindgen_anon_1.imm_data) };
        assert_eq!((rdma.remote_addr, rdma.rkey, immediate), (0x1234, 77, 1u32.to_be()));
        let plain = WorkRequest::write_inline(9, remote).lower(&mut segment, &mut inline);
        assert_eq!((plain.opcode, plain.send_flags), (sys::IBV_WR_RDMA_WRITE, sys::IBV_SEND_INLINE));
        let empty = WorkRequest::empty(remote).with_immediate(1).lower(&mut segment, &mut inline);
        assert_eq!((empty.opcode, empty.num_sge), (sys::IBV_WR_RDMA_WRITE_WITH_IMM, 0));
    }
}
