//! Memory that the core has registered: a handle per registration, one region per range however often it is registered.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, Weak};

use halo_verbs::{Access, MemoryRegion, ProtectionDomain};

use crate::plugin::abi;
use crate::plugin::device::{Device, Kind};
use crate::plugin::error::PluginError;
use crate::plugin::process::Lent;

/// One registration.
#[derive(Debug)]
pub(crate) struct Memory {
    process: u32,
    base: u64,
    bytes: usize,
    gpu: bool,
    /// With RDMA.
    registered: Option<Arc<Registered>>,
}

/// A region with its handles. It is theirs alone: requests hold the region itself, which then outlives this, but memory
/// that is registered after the last handle went may be other pages at the same address, and gets a region of its own.
#[derive(Debug)]
struct Registered(Arc<MemoryRegion>);

/// A dma-buf that an allocation belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DmaBuf {
    pub(crate) file: i32,
    pub(crate) offset: u64,
}

/// Ranges that are registered with one device.
#[derive(Debug, Default)]
pub(crate) struct RegionCache(Vec<(u64, usize, bool, Weak<Registered>)>);

impl RegionCache {
    fn find(&mut self, base: u64, bytes: usize, gpu: bool) -> Option<Arc<Registered>> {
        self.0.retain(|(.., registered)| registered.strong_count() > 0);
        let end = base.checked_add(bytes as u64)?;
        let covers = |(start, length, kind, _): &&(u64, usize, bool, Weak<Registered>)| {
            *kind == gpu && *start <= base && end <= start + *length as u64
        };
        self.0.iter().find(covers)?.3.upgrade()
    }

    fn add(
        &mut self,
        domain: &Arc<ProtectionDomain>,
        base: NonNull<u8>,
        bytes: usize,
        gpu: bool,
        dma_buf: Option<DmaBuf>,
    ) -> Result<Arc<Registered>, halo_verbs::Error> {
        let (domain, address) = (Arc::clone(domain), base.as_ptr() as u64);
        // GPU memory is read back after it was written, see `rdma::flush`.
        let access = if gpu { Access::RemoteReadWrite } else { Access::RemoteWrite };
        // The memory is the core's: it stays until the core deregisters it.
        let owner = Arc::new(());
        let region = match dma_buf {
            Some(DmaBuf { file, offset }) => {
                // SAFETY: the core's file descriptor, not negative, open during the call.
                let file = unsafe { BorrowedFd::borrow_raw(file) };
                MemoryRegion::register_dma_buf(domain, file, offset, bytes, address, access, owner)
            }
            // SAFETY: the core keeps registered memory in its place until it deregisters it, and lends it for writes
            // from outside by posting receives.
            None => unsafe { MemoryRegion::register(domain, base, bytes, access, owner) },
        };
        let registered = Arc::new(Registered(Arc::new(region?)));
        self.0.push((address, bytes, gpu, Arc::downgrade(&registered)));
        Ok(registered)
    }
}

impl Memory {
    /// Registers memory with a device, or takes the registration that covers it already.
    pub(crate) fn register(
        device: &Device,
        data: *mut u8,
        bytes: usize,
        pointer_kind: i32,
        dma_buf: Option<DmaBuf>,
    ) -> Result<Box<Self>, PluginError> {
        let gpu = pointer_kind != abi::PTR_HOST;
        let kind = if gpu { "GPU" } else { "host" };
        let refuse = |cause: String| PluginError::Register { device: device.describe(), bytes, kind, cause };
        // A dma-buf is another kind of memory, whatever kind it is said to hold.
        if !device.takes(pointer_kind) || dma_buf.is_some() && !device.takes(abi::PTR_DMABUF) {
            return Err(refuse("GPU-direct is not offered here".to_owned()));
        }
        if dma_buf.is_some_and(|DmaBuf { file, .. }| file < 0) {
            return Err(refuse("its dma-buf is no file".to_owned()));
        }
        let base = NonNull::new(data).ok_or_else(|| refuse("its address is NULL".to_owned()))?;
        let address = data as u64;
        let registered = match &device.kind {
            Kind::Tcp(_) => None,
            Kind::Rdma(port) => {
                let mut cache = port.regions.lock().unwrap_or_else(PoisonError::into_inner);
                let known = cache.find(address, bytes, gpu);
                let domain = port.domain()?;
                let registered = known.map_or_else(|| cache.add(domain, base, bytes, gpu, dma_buf), Ok);
                Some(registered.map_err(|error| refuse(error.to_string()))?)
            }
        };
        Ok(Box::new(Self { process: std::process::id(), base: address, bytes, gpu, registered }))
    }

    /// With RDMA. Requests keep it, so that it outlives them.
    pub(crate) fn region(&self) -> Option<&Arc<MemoryRegion>> {
        self.registered.as_ref().map(|registered| &registered.0)
    }

    /// Whether a buffer lies within it.
    pub(crate) fn holds(&self, data: *const u8, bytes: u64) -> bool {
        let at = data as u64;
        bytes == 0
            || (at >= self.base
                && at.checked_add(bytes).is_some_and(|end| end <= self.base + self.bytes as u64))
    }

    pub(crate) fn is_gpu(&self) -> bool {
        self.gpu
    }
}

impl Lent for Memory {
    fn process(&self) -> u32 {
        self.process
    }
}
