//! The NIC ports that this rank may use, chosen before ranks meet: the one of the data address, and others that may
//! become further rails.

use std::net::IpAddr;

use halo_verbs::Choice;

use crate::config::{Config, TransportChoice};

/// More candidates than this are not offered: each is given a listening socket while ranks meet.
const MOST: usize = 16;

/// A port with one of its GIDs.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) choice: Choice,
    /// Bits of its address that name the network.
    pub(crate) prefix: u8,
}

impl Port {
    /// Equal for all GIDs of one port.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.choice.context.name(), self.choice.port.number)
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.choice.gid.address()
    }
}

/// The candidates, that of the data address first.
#[derive(Debug)]
pub(crate) struct RdmaPorts {
    pub(crate) all: Vec<Port>,
    /// Whether the user has named several devices, so that each is meant to be used.
    pub(crate) listed: bool,
}

impl RdmaPorts {
    /// Finds the port whose RoCE v2 GID matches the data address, and every other port whose GID belongs to an address
    /// of this host. Only among the configured devices if some are; with one of them there is one rail. Why there is
    /// none is kept as text: it matters only where rdma is asked for.
    pub(crate) fn open(config: &Config, address: IpAddr) -> Result<Self, String> {
        let named: Vec<&str> = config.rdma_device.as_deref().map(names).unwrap_or_default();
        let choice = halo_verbs::choose(address, &named).map_err(|error| error.to_string())?;
        let listed = named.len() > 1;
        let mut all = vec![Port { choice, prefix: prefix(address).unwrap_or(0) }];
        let may_use_rdma = matches!(config.transport, TransportChoice::Auto | TransportChoice::Rdma);
        if named.len() != 1 && may_use_rdma {
            let found = match halo_verbs::candidates(&named) {
                Err(error) if listed => return Err(error.to_string()),
                found => found.unwrap_or_default(),
            };
            all.extend(found.into_iter().filter_map(further));
            let first = all[0].name();
            let mut index = 0;
            all.retain(|port| {
                index += 1;
                index == 1 || port.name() != first
            });
            all.truncate(MOST);
        }
        Ok(Self { all, listed })
    }

    /// The port of the data address.
    pub(crate) fn first(&self) -> &Choice {
        &self.all[0].choice
    }
}

/// The devices of a comma list.
fn names(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// A candidate for a further rail. Link-local addresses are the same network everywhere, so they tell nothing.
fn further(choice: Choice) -> Option<Port> {
    let address = choice.gid.address();
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let prefix = prefix(address).filter(|_| !link_local && !address.is_loopback())?;
    Some(Port { choice, prefix })
}

/// Bits of the network of an address of this host.
fn prefix(address: IpAddr) -> Option<u8> {
    let all = if_addrs::get_if_addrs().ok()?;
    all.into_iter().find(|interface| interface.ip() == address).map(|interface| match interface.addr {
        if_addrs::IfAddr::V4(address) => address.prefixlen,
        if_addrs::IfAddr::V6(address) => address.prefixlen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_devices_may_have_spaces_and_ends() {
        assert_eq!(names("irdma0"), ["irdma0"]);
        assert_eq!(names("irdma0:1, irdma1,"), ["irdma0:1", "irdma1"]);
        assert!(names(" ,").is_empty());
    }

    #[test]
    fn the_network_of_an_address_is_its_interface_s() {
        assert_eq!(prefix("127.0.0.1".parse().unwrap()), Some(8));
        assert_eq!(prefix("203.0.113.9".parse().unwrap()), None);
    }
}
