//! Devices, contexts and ports.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::{Error, errno, last_errno};
use crate::gid::Gid;
use crate::library::{Library, library};
use crate::sys;

/// An RDMA device, as named by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Such as `irdma0` or `rxe0`.
    pub name: String,
    /// What it speaks.
    pub transport: TransportKind,
}

/// What a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// InfiniBand's transport, which RoCE also uses.
    InfiniBand,
    /// iWARP: RDMA over TCP. It has no GIDs that name an address, and no RoCE.
    Iwarp,
    /// Anything else.
    Other,
}

/// The names and kinds of all devices.
///
/// # Errors
/// No libibverbs, or the list cannot be read.
pub fn devices() -> Result<Vec<Device>, Error> {
    with_list(|list| Ok(list.iter().map(|device| describe(*device)).collect()))
}

fn describe(device: NonNull<sys::ibv_device>) -> Device {
    // SAFETY: a device of a list that is not freed yet.
    let device = unsafe { device.as_ref() };
    // SAFETY: the name is a terminated string within its array.
    let name = unsafe { CStr::from_ptr(device.name.as_ptr()) }.to_string_lossy().into_owned();
    let transport = match device.transport_type {
        sys::IBV_TRANSPORT_IB => TransportKind::InfiniBand,
        sys::IBV_TRANSPORT_IWARP => TransportKind::Iwarp,
        _ => TransportKind::Other,
    };
    Device { name, transport }
}

fn with_list<T>(work: impl FnOnce(&[NonNull<sys::ibv_device>]) -> Result<T, Error>) -> Result<T, Error> {
    let library = library()?;
    let mut count = 0;
    // SAFETY: the count is written; the list is freed below.
    let list = unsafe { (library.ibv_get_device_list)(&raw mut count) };
    if list.is_null() {
        let error = std::io::Error::last_os_error();
        // A kernel without RDMA support has nothing to list devices from.
        if error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) {
            return Err(Error::NoDevices);
        }
        let cause = error.to_string();
        return Err(Error::Call {
            call: "ibv_get_device_list".to_owned(),
            device: "this host".to_owned(),
            cause,
        });
    }
    // SAFETY: the list has `count` entries before its terminating null.
    let devices =
        unsafe { std::slice::from_raw_parts(list.cast::<NonNull<sys::ibv_device>>(), count as usize) };
    let result = work(devices);
    // SAFETY: the list came from ibv_get_device_list; opened contexts keep their devices by themselves.
    unsafe { (library.ibv_free_device_list)(list) };
    result
}

/// An opened device.
pub struct Context {
    pub(crate) library: &'static Library,
    pub(crate) raw: NonNull<sys::ibv_context>,
    device: Device,
}

// SAFETY: libibverbs' calls on a context are thread-safe.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Context").field(&self.device.name).finish()
    }
}

/// Whether a port carries traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// It does.
    Active,
    /// The link is down.
    Down,
    /// In between.
    Other(u32),
}

/// What a port is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLayer {
    /// Ethernet: RoCE.
    Ethernet,
    /// InfiniBand.
    InfiniBand,
    /// Unknown.
    Unspecified,
}

/// A port's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Its number, from 1.
    pub number: u8,
    /// Whether it is up.
    pub state: PortState,
    /// Bytes of a packet's payload.
    pub mtu: u32,
    /// What it is made of.
    pub link_layer: LinkLayer,
    /// Length of its GID table.
    pub gids: u32,
}

/// How deep a device's queues may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Work requests that a queue pair holds: `max_qp_wr`.
    pub work_requests: u32,
    /// Completions that a completion queue holds: `max_cqe`.
    pub completions: u32,
}

impl Context {
    /// Opens a device by name.
    ///
    /// # Errors
    /// No libibverbs, no such device, or it cannot be opened.
    pub fn open(name: &str) -> Result<Arc<Self>, Error> {
        let library = library()?;
        with_list(|list| {
            let found = list.iter().find(|device| describe(**device).name == name);
            let Some(found) = found else {
                let names = list.iter().map(|device| describe(*device).name).collect::<Vec<_>>();
                let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Error::UnknownDevice { given: name.to_owned(), available });
            };
            // SAFETY: a device of the list that is being held.
            let raw = unsafe { (library.ibv_open_device)(found.as_ptr()) };
            let raw = NonNull::new(raw)
                .ok_or_else(|| Error::Open { device: name.to_owned(), cause: last_errno() })?;
            Ok(Arc::new(Self { library, raw, device: describe(*found) }))
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// Number of ports; they count from 1.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn ports(&self) -> Result<u8, Error> {
        Ok(self.attributes()?.phys_port_cnt)
    }

    /// How deep its queues may be. The device may still refuse what is within these limits.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn queue_limits(&self) -> Result<QueueLimits, Error> {
        let attributes = self.attributes()?;
        let most = |limit: i32| u32::try_from(limit).unwrap_or(0);
        Ok(QueueLimits { work_requests: most(attributes.max_qp_wr), completions: most(attributes.max_cqe) })
    }

    fn attributes(&self) -> Result<sys::ibv_device_attr, Error> {
        let mut attributes = sys::ibv_device_attr::default();
        // SAFETY: an open context; the attributes are written.
        let status = unsafe { (self.library.ibv_query_device)(self.raw.as_ptr(), &raw mut attributes) };
        self.check("ibv_query_device", status)?;
        Ok(attributes)
    }

    /// A port's attributes.
    ///
    /// # Errors
    /// There is no such port.
    pub fn port(&self, number: u8) -> Result<Port, Error> {
        let mut attributes = sys::ibv_port_attr::default();
        // SAFETY: an open context; the call writes a prefix of the attributes, the rest stays zero.
        let status = unsafe { (self.library.ibv_query_port)(self.raw.as_ptr(), number, &raw mut attributes) };
        self.check(&format!("ibv_query_port({number})"), status)?;
        Ok(Port {
            number,
            state: match attributes.state {
                sys::IBV_PORT_ACTIVE => PortState::Active,
                sys::IBV_PORT_DOWN => PortState::Down,
                other => PortState::Other(other),
            },
            mtu: 128 << attributes.active_mtu,
            link_layer: match attributes.link_layer {
                // IBV_LINK_LAYER_INFINIBAND and IBV_LINK_LAYER_ETHERNET
                1 => LinkLayer::InfiniBand,
                2 => LinkLayer::Ethernet,
                _ => LinkLayer::Unspecified,
            },
            gids: attributes.gid_tbl_len as u32,
        })
    }

    /// The GIDs of a port that are set.
    ///
    /// # Errors
    /// There is no such port.
    pub fn gids(&self, port: u8) -> Result<Vec<Gid>, Error> {
        let count = self.port(port)?.gids;
        Ok((0..count).filter_map(|index| Gid::read(self, port, index)).collect())
    }

    /// One GID of a port, if it is set: a whole table may have a thousand places, and each is a system call.
    pub fn gid(&self, port: u8, index: u32) -> Option<Gid> {
        Gid::read(self, port, index)
    }

    pub(crate) fn check(&self, call: &str, status: i32) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        Err(Error::Call {
            call: call.to_owned(),
            device: self.device.name.clone(),
            cause: errno(status.abs()),
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: opened here, and everything made from it holds it and is gone.
        unsafe { (self.library.ibv_close_device)(self.raw.as_ptr()) };
    }
}
