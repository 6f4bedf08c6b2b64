//! Memory that the core has registered: a handle per registration, one region per range and port however often it is
//! registered.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, Weak};

use halo_verbs::{Access, MemoryRegion, ProtectionDomain};

use crate::plugin::abi;
use crate::plugin::device::{Device, MAX_PORTS, RdmaPorts};
use crate::plugin::error::PluginError;
use crate::plugin::process::Lent;

/// One registration.
#[derive(Debug)]
pub(crate) struct Memory {
    process: u32,
    device: &'static Device,
    base: u64,
    bytes: usize,
    gpu: bool,
    /// With RDMA.
    registered: Option<Arc<Registered>>,
}

/// Memory as each port of a device has it.
#[derive(Debug)]
pub(crate) struct Regions([Option<MemoryRegion>; MAX_PORTS]);

impl Regions {
    /// As the port of this rail has it.
    pub(crate) fn at(&self, rail: usize) -> &MemoryRegion {
        self.0[rail].as_ref().expect("a region for every port of the device")
    }

    /// What a peer must know to write there, by rail.
    pub(crate) fn keys(&self) -> [u32; MAX_PORTS] {
        self.0.each_ref().map(|region| region.as_ref().map_or(0, MemoryRegion::remote_key))
    }
}

/// Regions with their handles. They are theirs alone: requests hold the regions themselves, which then outlive this, but
/// memory that is registered after the last handle went may be other pages at the same address, and gets regions of its
/// own.
#[derive(Debug)]
struct Registered(Arc<Regions>);

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
        ports: &RdmaPorts,
        base: NonNull<u8>,
        bytes: usize,
        gpu: bool,
        dma_buf: Option<DmaBuf>,
    ) -> Result<Arc<Registered>, String> {
        let mut regions = Regions([const { None }; MAX_PORTS]);
        // What a port has taken is given back where a later one refuses.
        for (region, port) in regions.0.iter_mut().zip(ports.iter()) {
            let domain = port.domain().map_err(|error| error.to_string())?;
            let made = register(domain, base, bytes, gpu, dma_buf);
            *region = Some(made.map_err(|error| error.to_string())?);
        }
        let registered = Arc::new(Registered(Arc::new(regions)));
        self.0.push((base.as_ptr() as u64, bytes, gpu, Arc::downgrade(&registered)));
        Ok(registered)
    }
}

/// Registers memory with one port.
fn register(
    domain: &Arc<ProtectionDomain>,
    base: NonNull<u8>,
    bytes: usize,
    gpu: bool,
    dma_buf: Option<DmaBuf>,
) -> Result<MemoryRegion, halo_verbs::Error> {
    let (domain, address) = (Arc::clone(domain), base.as_ptr() as u64);
    // GPU memory is read back after it was written, see `rdma::flush`.
    let access = if gpu { Access::RemoteReadWrite } else { Access::RemoteWrite };
    // The memory is the core's: it stays until the core deregisters it.
    let owner = Arc::new(());
    match dma_buf {
        Some(DmaBuf { file, offset }) => {
            // SAFETY: the core's file descriptor, not negative, open during the call.
            let file = unsafe { BorrowedFd::borrow_raw(file) };
            MemoryRegion::register_dma_buf(domain, file, offset, bytes, address, access, owner)
        }
        // SAFETY: the core keeps registered memory in its place until it deregisters it, and lends it for writes
        // from outside by posting receives.
        None => unsafe { MemoryRegion::register(domain, base, bytes, access, owner) },
    }
}

impl Memory {
    /// Registers memory with a device, every port of it, or takes the registration that covers it already.
    pub(crate) fn register(
        device: &'static Device,
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
        let registered = device.ports().map(|ports| {
            let mut cache = ports.regions.lock().unwrap_or_else(PoisonError::into_inner);
            let known = cache.find(address, bytes, gpu);
            known.map_or_else(|| cache.add(ports, base, bytes, gpu, dma_buf), Ok)
        });
        let registered = registered.transpose().map_err(refuse)?;
        Ok(Box::new(Self { process: std::process::id(), device, base: address, bytes, gpu, registered }))
    }

    /// With RDMA. Requests keep them, so that they outlive them.
    pub(crate) fn regions(&self) -> Option<&Arc<Regions>> {
        self.registered.as_ref().map(|registered| &registered.0)
    }

    /// Whether it was registered with the ports of this device.
    pub(crate) fn is_of(&self, device: &'static Device) -> bool {
        std::ptr::eq(self.device, device)
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
