//! The memory that peers write into. This file and the links hold all of the fabric's `unsafe`.
//!
//! # Why sharing it is sound
//! An arena is memory that other processes (or a NIC) write while this one reads. The rule that makes this sound
//! is the hand-over of slots: a payload byte is written only between the sender's receipt of credit for its slot
//! and the release store of the slot's flag, and read only between the acquire load that sees that flag and the
//! release store of the credit. Flags and credits are the only bytes that both sides touch at one time, and they
//! are touched as atomics alone. A peer that breaks the rule can spoil payloads, never memory safety: lengths and
//! offsets from the wire are checked against the slot before they are used.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::atomic::AtomicU64;
use crate::copy;
use crate::flag;
use crate::message::{HEADER_BYTES, Header};

/// Shared memory of one rank, mapped here: this rank's own arena, or a peer's on the same host.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    bytes: usize,
    /// Bytes of the mapping: whole pages.
    mapped: usize,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone and no method depends on the thread that made it.
unsafe impl Send for Arena {}
// SAFETY: shared access goes through atomics, or through the slot hand-over described above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Fresh zeroed memory that can be shared with other processes by passing its file descriptor.
    ///
    /// # Errors
    /// The system refuses memory or a file descriptor.
    pub fn allocate(bytes: usize) -> Result<Self, rustix::io::Errno> {
        let file = memfd_create("halo-arena", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes.max(1) as u64)?;
        Self::map(file, bytes)
    }

    /// The same in pages of the system's pool of huge pages, `page_bytes` bytes each.
    pub(crate) fn allocate_from_pool(bytes: usize, page_bytes: usize) -> Result<Self, rustix::io::Errno> {
        let file = memfd_create("halo-arena", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB)?;
        ftruncate(&file, bytes.max(1).next_multiple_of(page_bytes) as u64)?;
        // Mapping reserves the pages: a pool that is too small shows here, and never when they are touched.
        Self::map(file, bytes)
    }

    /// Asks for transparent huge pages where there can be any.
    pub(crate) fn ask_for_huge_pages(&self) -> Result<(), rustix::io::Errno> {
        // SAFETY: exactly this mapping, whose contents the advice does not change.
        unsafe { madvise(self.base.as_ptr().cast(), self.mapped, Advice::LinuxHugepage) }
    }

    /// Gives the pages back to the system; all mappings then read zeros.
    pub(crate) fn discard(&self) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where it is refused, the pages go with the last mapping.
        let _ = fallocate(&self.file, hole, 0, self.bytes as u64);
    }

    /// Another mapping of the same memory.
    #[cfg(test)]
    pub(crate) fn twin(&self) -> Result<Self, rustix::io::Errno> {
        Self::map(self.file.try_clone().expect("a file descriptor"), self.bytes)
    }

    /// Has pages that are touched from now on lie in the memory of this node, as long as it has room.
    pub(crate) fn prefer_node(&self, node: usize) -> Result<(), rustix::io::Errno> {
        const MPOL_PREFERRED: usize = 1;
        let nodes = node_mask(node);
        // SAFETY: exactly this mapping, and a mask of as many bits as the kernel is told, which it only reads.
        let status = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base.as_ptr(),
                self.mapped,
                MPOL_PREFERRED,
                nodes.as_ptr(),
                NODES + 1,
                0,
            )
        };
        if status == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::INVAL))
    }

    /// Maps an arena that another process passed here.
    ///
    /// # Errors
    /// The file is smaller than `bytes` (the peer computed another layout), or mapping is refused.
    pub(crate) fn map(file: OwnedFd, bytes: usize) -> Result<Self, rustix::io::Errno> {
        let state = rustix::fs::fstat(&file)?;
        // A mapping of huge pages ends with a whole one, and is taken back as a whole.
        let mapped = bytes.max(1).next_multiple_of((state.st_blksize as usize).max(1));
        if (state.st_size as usize) < bytes {
            return Err(rustix::io::Errno::OVERFLOW);
        }
        // SAFETY: a fresh shared mapping at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { base, bytes, mapped, file })
    }

    /// Where the arena begins, for registration with a NIC.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks an arena whether it is empty")]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// The file behind it, to pass to a process on the same host.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    #[inline]
    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= self.bytes),
            "arena access at {offset}, {length} bytes, of {}",
            self.bytes
        );
        // SAFETY: the assertion keeps the offset within the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    #[inline]
    #[allow(clippy::cast_ptr_alignment, reason = "checked on the next line")]
    fn word(&self, offset: usize) -> &AtomicU64 {
        let pointer = self.at(offset, 8).cast::<u64>();
        assert!(pointer.is_aligned(), "flags and credits are 8-byte aligned");
        // SAFETY: in bounds and aligned (checked), mapped as long as `self`; every process touches these words
        // as atomics only, and a NIC writes 8 aligned bytes at once.
        unsafe { AtomicU64::from_ptr(pointer) }
    }

    /// A word of four bytes, as futexes are.
    #[inline]
    #[allow(clippy::cast_ptr_alignment, reason = "checked on the next line")]
    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        let pointer = self.at(offset, 4).cast::<u32>();
        assert!(pointer.is_aligned(), "bells are 4-byte aligned");
        // SAFETY: in bounds and aligned (checked), mapped as long as `self`; touched as an atomic alone.
        unsafe { AtomicU32::from_ptr(pointer) }
    }

    /// Reads a flag or credit; what was written before its release store is visible after this.
    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        flag::look(self.word(offset))
    }

    /// Raises a flag or tells a credit, after everything written before.
    #[inline]
    pub fn store(&self, offset: usize, value: u64) {
        flag::raise(self.word(offset), value);
    }

    /// Copies `source` to `offset`. The caller holds the credit of the slot it writes to.
    #[inline]
    pub fn write(&self, offset: usize, source: &[u8]) {
        let target = self.at(offset, source.len());
        // SAFETY: the target is in bounds (checked); by the slot hand-over nobody reads or writes it now, and a
        // slice of this process's other memory cannot overlap a slot that is being written.
        unsafe { copy::copy(source.as_ptr(), target, source.len()) };
    }

    /// Writes a header into a trailer. The caller holds the credit of that slot.
    #[inline]
    pub(crate) fn write_header(&self, offset: usize, header: &Header) {
        let bytes: &[u8; HEADER_BYTES] =
            bytemuck::bytes_of(header).try_into().expect("the bytes of a header");
        let target = self.at(offset, HEADER_BYTES).cast::<[u8; HEADER_BYTES]>();
        // A copy whose length the compiler knows is a few instructions, and no call.
        // SAFETY: as in `write`.
        unsafe { *target = *bytes };
    }

    /// Reads the header of a trailer whose flag has been seen.
    #[inline]
    pub(crate) fn read_header(&self, offset: usize) -> Header {
        bytemuck::pod_read_unaligned(self.read(offset, HEADER_BYTES))
    }

    /// Bytes that a peer has handed over: its flag has been seen and its credit not yet returned.
    #[inline]
    pub fn read(&self, offset: usize, length: usize) -> &[u8] {
        let source = self.at(offset, length);
        // SAFETY: in bounds (checked) and mapped as long as `self`; by the slot hand-over nobody writes these
        // bytes until the credit is returned, and the mesh returns it only through `&mut self`, when no slice
        // borrowed from it is left.
        unsafe { std::slice::from_raw_parts(source, length) }
    }

    /// Bytes of a slot that this process fills itself (tcp receives, rdma staging).
    #[allow(clippy::mut_from_ref, reason = "exclusive by the slot hand-over, not by the borrow checker")]
    pub(crate) fn slot_mut(&self, offset: usize, length: usize) -> &mut [u8] {
        let target = self.at(offset, length);
        // SAFETY: in bounds (checked); the caller is the only writer of a slot whose flag is not raised, and no
        // reader looks at it before.
        unsafe { std::slice::from_raw_parts_mut(target, length) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; every borrow of it ends with `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// Nodes that a mask has room for: as many as Linux is built for at most.
const NODES: usize = 1024;

/// The mask that names one node.
fn node_mask(node: usize) -> [u64; NODES / 64] {
    let mut mask = [0; NODES / 64];
    if let Some(word) = mask.get_mut(node / 64) {
        *word = 1 << (node % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let arena = Arena::allocate(4096).unwrap();
        let twin = Arena::map(arena.file().try_clone_to_owned().unwrap(), 4096).unwrap();
        arena.write(100, b"hello");
        arena.store(64, 7);
        assert_eq!(twin.load(64), 7);
        assert_eq!(twin.read(100, 5), b"hello");
    }

    #[test]
    fn a_file_too_small_for_the_layout_is_refused() {
        let arena = Arena::allocate(4096).unwrap();
        let file = arena.file().try_clone_to_owned().unwrap();
        assert_eq!(Arena::map(file, 8192).unwrap_err(), rustix::io::Errno::OVERFLOW);
    }

    #[test]
    fn a_node_is_one_bit_of_its_mask_and_the_kernel_takes_it() {
        assert_eq!(node_mask(0)[0], 1);
        assert_eq!((node_mask(65)[0], node_mask(65)[1]), (0, 2));
        assert_eq!(node_mask(NODES), [0; NODES / 64]);
        let arena = Arena::allocate(1 << 16).unwrap();
        // Node 0 is there on every machine; a container may forbid the call, and a kernel may be built without it.
        let answer = arena.prefer_node(0);
        let forbidden = [rustix::io::Errno::PERM, rustix::io::Errno::NOSYS];
        assert!(answer.is_ok() || answer.is_err_and(|error| forbidden.contains(&error)), "{answer:?}");
        let answer = arena.prefer_node(NODES - 1);
        assert!(answer.is_err(), "there is no such node");
        arena.write(0, b"hello");
        assert_eq!(arena.read(0, 5), b"hello");
    }

    #[test]
    #[should_panic(expected = "arena access")]
    fn an_access_beyond_the_end_is_a_panic_and_no_more() {
        Arena::allocate(64).unwrap().write(60, b"hello");
    }
}
