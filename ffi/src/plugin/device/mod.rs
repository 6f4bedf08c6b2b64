//! The devices that the core may use: each RDMA port with a RoCE v2 GID, or each TCP interface, and their properties.

mod list;
pub(crate) mod port;
pub(crate) mod selection;
mod sysfs;

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::abi;
use super::error::PluginError;
use super::settings::Settings;
use super::statistics::Statistics;

pub(crate) use list::{all, by_number, initialise};
pub(crate) use port::RdmaPort;

/// Grouped receives: parts of one request.
pub(crate) const MAX_RECEIVES: usize = 8;
/// The largest message: above it the core splits.
pub(crate) const MAX_MESSAGE_BYTES: u64 = 1 << 30;

/// What the core is told of a device. It lives as long as the process.
#[derive(Debug)]
pub(crate) struct Properties {
    pub(crate) name: CString,
    /// Of the PCI device below /sys; `None` for a device that is none.
    pub(crate) pci_path: Option<CString>,
    /// Equal for the ports of one chip.
    pub(crate) guid: u64,
    /// Bits of `abi::PTR_*`.
    pub(crate) pointer_support: i32,
    /// Mb/s.
    pub(crate) speed: i32,
    pub(crate) port: i32,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) number: usize,
    pub(crate) properties: Properties,
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) statistics: Statistics,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(TcpInterface),
    Rdma(RdmaPort),
}

/// An interface with an address.
#[derive(Debug, Clone)]
pub(crate) struct TcpInterface {
    pub(crate) address: IpAddr,
    pub(crate) index: u32,
}

impl Device {
    /// For messages: name, and what it speaks.
    pub(crate) fn describe(&self) -> String {
        let name = self.properties.name.to_string_lossy();
        match &self.kind {
            Kind::Tcp(_) => format!("{name} (tcp)"),
            Kind::Rdma(port) => format!("{name}:{} (rdma)", port.number),
        }
    }

    /// Where this device listens and calls from, with a port of the system's choice.
    pub(crate) fn address(&self) -> Result<SocketAddr, PluginError> {
        match &self.kind {
            Kind::Tcp(interface) => Ok(socket_address(interface.address, interface.index)),
            Kind::Rdma(port) => {
                let gid = port.current_gid(&self.settings)?;
                let index = gid.interface.as_deref().and_then(sysfs::interface_index).unwrap_or(0);
                Ok(socket_address(gid.address(), index))
            }
        }
    }

    /// Whether memory of this kind can be registered.
    pub(crate) fn takes(&self, pointer_kind: i32) -> bool {
        self.properties.pointer_support & pointer_kind != 0
    }

    /// Whether GPU memory is offered.
    pub(crate) fn gpu_direct(&self) -> bool {
        self.takes(abi::PTR_CUDA)
    }
}

/// A link-local IPv6 address needs its interface.
fn socket_address(address: IpAddr, index: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, 0, 0, index).into()
        }
        address => SocketAddr::new(address, 0),
    }
}
