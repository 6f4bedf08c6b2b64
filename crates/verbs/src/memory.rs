//! Protection domains and registered memory.

use std::any::Any;
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::io::Errno;

use crate::device::Context;
use crate::error::{Error, last_errno};
use crate::sys;

/// What may be done with registered memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The NIC reads it for this process's own sends and writes.
    Local,
    /// Peers write it.
    RemoteWrite,
    /// Peers write it, and whoever has its key reads it.
    RemoteReadWrite,
}

impl Access {
    fn flags(self) -> c_int {
        let local = sys::IBV_ACCESS_LOCAL_WRITE;
        (match self {
            Self::Local => local,
            Self::RemoteWrite => local | sys::IBV_ACCESS_REMOTE_WRITE,
            Self::RemoteReadWrite => local | sys::IBV_ACCESS_REMOTE_WRITE | sys::IBV_ACCESS_REMOTE_READ,
        }) as c_int
    }
}

/// What queue pairs and memory must share to be used together.
pub struct ProtectionDomain {
    pub(crate) context: Arc<Context>,
    pub(crate) raw: NonNull<sys::ibv_pd>,
}

// SAFETY: libibverbs' calls on a protection domain are thread-safe.
unsafe impl Send for ProtectionDomain {}
// SAFETY: as above.
unsafe impl Sync for ProtectionDomain {}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProtectionDomain").field(&self.context).finish()
    }
}

impl ProtectionDomain {
    /// A new one.
    ///
    /// # Errors
    /// The device refuses.
    pub fn new(context: Arc<Context>) -> Result<Arc<Self>, Error> {
        // SAFETY: an open context.
        let raw = unsafe { (context.library.ibv_alloc_pd)(context.raw.as_ptr()) };
        let Some(raw) = NonNull::new(raw) else {
            let (device, cause) = (context.name().to_owned(), last_errno());
            return Err(Error::Call { call: "ibv_alloc_pd".to_owned(), device, cause });
        };
        Ok(Arc::new(Self { context, raw }))
    }

    /// The device.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: allocated here; everything made in it holds it and is gone.
        unsafe { (self.context.library.ibv_dealloc_pd)(self.raw.as_ptr()) };
    }
}

/// Memory that the NIC may read and, if allowed, peers may write.
pub struct MemoryRegion {
    domain: Arc<ProtectionDomain>,
    raw: NonNull<sys::ibv_mr>,
    base: u64,
    bytes: usize,
    // The memory itself; after `raw`'s deregistration in drop it may go.
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: libibverbs' calls on a memory region are thread-safe, and this type never touches the memory.
unsafe impl Send for MemoryRegion {}
// SAFETY: as above.
unsafe impl Sync for MemoryRegion {}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegion")
            .field("domain", &self.domain)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl MemoryRegion {
    /// Registers `bytes` bytes of host memory from `base`.
    ///
    /// # Errors
    /// The memlock limit, or the device refuses.
    ///
    /// # Safety
    /// `owner` keeps the memory mapped and in its place; with [`Access::RemoteWrite`] the memory is only used in ways
    /// that allow for writes from outside.
    pub unsafe fn register(
        domain: Arc<ProtectionDomain>,
        base: NonNull<u8>,
        bytes: usize,
        access: Access,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, Error> {
        let library = domain.context.library;
        // SAFETY: a live protection domain; the memory is there by this function's contract.
        let raw =
            unsafe { (library.ibv_reg_mr)(domain.raw.as_ptr(), base.as_ptr().cast(), bytes, access.flags()) };
        let raw = NonNull::new(raw).ok_or_else(|| refused(&domain, "ibv_reg_mr", bytes))?;
        Ok(Self { domain, raw, base: base.as_ptr() as u64, bytes, _owner: owner })
    }

    /// Registers part of a dma-buf: device memory that another driver exported. Peers and work requests address it
    /// from `address` on.
    ///
    /// # Errors
    /// This libibverbs, kernel or device has no dma-buf registration, or refuses.
    pub fn register_dma_buf(
        domain: Arc<ProtectionDomain>,
        file: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
        address: u64,
        access: Access,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, Error> {
        let register = domain
            .context
            .library
            .ibv_reg_dmabuf_mr
            .ok_or(Error::SymbolMissing { symbol: "ibv_reg_dmabuf_mr" })?;
        // SAFETY: a live protection domain and file; the exporter's memory is kept by the registration itself.
        let raw = unsafe {
            register(domain.raw.as_ptr(), offset, bytes, address, file.as_raw_fd(), access.flags())
        };
        let raw = NonNull::new(raw).ok_or_else(|| refused(&domain, "ibv_reg_dmabuf_mr", bytes))?;
        Ok(Self { domain, raw, base: address, bytes, _owner: owner })
    }

    /// Whether this libibverbs registers dma-buf memory at all; the device and the kernel have the last word.
    ///
    /// # Errors
    /// No libibverbs.
    pub fn dma_buf_known() -> Result<bool, Error> {
        Ok(crate::library::library()?.ibv_reg_dmabuf_mr.is_some())
    }

    /// Where it begins, as peers address it.
    pub fn address(&self) -> u64 {
        self.base
    }

    /// What peers must show to write here.
    pub fn remote_key(&self) -> u32 {
        // SAFETY: registered and not deregistered.
        unsafe { self.raw.as_ref() }.rkey
    }

    /// A part of it, for a work request.
    pub(crate) fn part(&self, offset: usize, bytes: usize) -> Result<sys::ibv_sge, Error> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            let what = format!("a memory region of {} bytes", self.bytes);
            return Err(Error::OutOfBounds { bytes, offset, what });
        }
        // SAFETY: registered and not deregistered.
        let lkey = unsafe { self.raw.as_ref() }.lkey;
        Ok(sys::ibv_sge { addr: self.base + offset as u64, length: bytes as u32, lkey })
    }
}

fn refused(domain: &ProtectionDomain, call: &str, bytes: usize) -> Error {
    let error = io::Error::last_os_error();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let exceeded = limit.filter(|limit| is_limited() && pinned() + bytes as u64 > *limit);
    classify(&error, exceeded, domain.context.name(), call, bytes)
}

/// What an errno of a registration means; `exceeded` is the memlock limit, where the registration is beyond it. The kernel
/// answers ENOMEM both when that limit is reached and when the device has no room for one so large, and EPERM where the
/// limit is zero.
fn classify(error: &io::Error, exceeded: Option<u64>, device: &str, call: &str, bytes: usize) -> Error {
    let (device, call, cause) = (device.to_owned(), call.to_owned(), error.to_string());
    match (Errno::from_io_error(error), exceeded) {
        (Some(Errno::NOMEM | Errno::PERM), Some(limit)) => {
            Error::Memlock { device, bytes, limit: format!("{limit} bytes") }
        }
        (Some(Errno::NOMEM | Errno::INVAL), _) => Error::RegionTooLarge { call, device, bytes, cause },
        _ => Error::Call { call: format!("{call} of {bytes} bytes"), device, cause },
    }
}

/// A line of `/proc/self/status`.
fn of_this_process(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

/// Bytes that this process has pinned.
fn pinned() -> u64 {
    let kilobytes = of_this_process("VmPin").and_then(|text| text.trim_end_matches("kB").trim().parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}

/// Whether the memlock limit holds for this process: CAP_IPC_LOCK is above it.
fn is_limited() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let capabilities = of_this_process("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
    capabilities.unwrap_or(0) & CAP_IPC_LOCK == 0
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: registered here, deregistered once.
        unsafe { (self.domain.context.library.ibv_dereg_mr)(self.raw.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno, exceeded: Option<u64>) -> Error {
        classify(&errno.into(), exceeded, "rxe0", "ibv_reg_mr", 4096)
    }

    #[test]
    fn what_is_too_large_for_one_region_may_be_cut() {
        for (errno, exceeded) in [(Errno::NOMEM, None), (Errno::INVAL, None), (Errno::INVAL, Some(1024))] {
            let error = of(errno, exceeded);
            assert!(matches!(&error, Error::RegionTooLarge { bytes: 4096, .. }), "{errno}: {error}");
            let told = error.to_string();
            assert!(told.contains("ibv_reg_mr of 4096 bytes on rxe0"), "{told}");
        }
    }

    #[test]
    fn the_memlock_limit_is_named_where_it_is_exceeded() {
        for (errno, limit) in [(Errno::NOMEM, 1024), (Errno::PERM, 0)] {
            let error = of(errno, Some(limit));
            let named =
                matches!(&error, Error::Memlock { limit: words, .. } if *words == format!("{limit} bytes"));
            assert!(named, "{errno}: {error}");
        }
    }

    #[test]
    fn everything_else_is_the_call_s_failure() {
        let others = [Errno::PERM, Errno::ACCESS, Errno::FAULT, Errno::OPNOTSUPP, Errno::IO, Errno::NOSPC];
        for (errno, exceeded) in
            others.map(|errno| (errno, None)).into_iter().chain([(Errno::FAULT, Some(1024))])
        {
            let error = of(errno, exceeded);
            assert!(matches!(&error, Error::Call { .. }), "{errno}: {error}");
            assert!(error.to_string().contains("ibv_reg_mr of 4096 bytes"), "{error}");
        }
    }
}
