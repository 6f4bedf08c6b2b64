//! The devices that the core may use: each RDMA port with a RoCE v2 GID, or each TCP interface, and their properties; and
//! several RDMA ports as one, where the core asks for that.

mod joined;
mod list;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod ports;
pub(crate) mod selection;
mod sysfs;

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::abi;
use super::error::PluginError;
use super::settings::Settings;
use super::statistics::Statistics;

pub(crate) use joined::join;
pub(crate) use list::{Devices, all, begin, by_number, end, initialise};
pub(crate) use network::Network;
pub(crate) use port::RdmaPort;
pub(crate) use ports::{MAX_PORTS, RdmaPorts};

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
    /// The numbers of the devices that it consists of: its own, unless it is several joined.
    pub(crate) members: Vec<i32>,
    pub(crate) properties: Properties,
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) statistics: Statistics,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(TcpInterface),
    Rdma(RdmaPorts),
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
        match &self.kind {
            Kind::Tcp(_) => format!("{} (tcp)", self.properties.name.to_string_lossy()),
            Kind::Rdma(ports) => {
                let names: Vec<_> = ports.iter().map(RdmaPort::name).collect();
                format!("{} (rdma)", names.join("+"))
            }
        }
    }

    /// Where this device listens, with a port of the system's choice.
    pub(crate) fn address(&self) -> Result<SocketAddr, PluginError> {
        match &self.kind {
            Kind::Tcp(interface) => Ok(socket_address(interface.address, interface.index)),
            Kind::Rdma(ports) => self.address_of(ports.first()),
        }
    }

    /// Where this device calls a peer from, with a port of the system's choice: of several ports that in its network.
    pub(crate) fn address_towards(&self, peer: IpAddr) -> Result<SocketAddr, PluginError> {
        if let Some(ports) = self.ports().filter(|ports| ports.count() > 1) {
            for port in ports.iter() {
                let address = self.address_of(port)?;
                if Network::of(address.ip()).is_some_and(|network| network.has(peer)) {
                    return Ok(address);
                }
            }
        }
        self.address()
    }

    fn address_of(&self, port: &RdmaPort) -> Result<SocketAddr, PluginError> {
        let gid = port.current_gid(&self.settings)?;
        let index = gid.interface.as_deref().and_then(sysfs::interface_index).unwrap_or(0);
        Ok(socket_address(gid.address(), index))
    }

    /// Its ports, if it is an RDMA device.
    pub(crate) fn ports(&self) -> Option<&RdmaPorts> {
        match &self.kind {
            Kind::Tcp(_) => None,
            Kind::Rdma(ports) => Some(ports),
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
