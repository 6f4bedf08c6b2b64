//! Who and where this process is: the host's name, its identity for shared memory, and the data address.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt;

use crate::config::Config;
use crate::error::FabricError;

/// The host's name, for messages.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Equal for two processes exactly when they can pass each other file descriptors: same boot of the same kernel,
/// same network namespace (abstract sockets live in it). Two containers that share the host's network are one
/// host; two network namespaces are two.
pub(crate) fn identity() -> Result<String, FabricError> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|error| FabricError::system("read /proc/sys/kernel/random/boot_id", error))?;
    let network = fs::metadata("/proc/self/ns/net")
        .map_err(|error| FabricError::system("stat /proc/self/ns/net", error))?;
    Ok(format!("{}/{}:{}", boot.trim(), network.dev(), network.ino()))
}

/// The address peers are given: configured, or the first IPv4 address of the configured interface, or the default.
pub(crate) fn data_address(config: &Config, default: IpAddr) -> Result<IpAddr, FabricError> {
    let refuse = |cause: String| Err(FabricError::DataAddress { cause });
    if let Some(address) = config.address {
        return match std::net::TcpListener::bind((address, 0)) {
            Ok(_) => Ok(address),
            Err(error) => refuse(format!("{address} is not an address of host {}: {error}", name())),
        };
    }
    if let Some(interface) = &config.interface {
        return interface_address(interface);
    }
    Ok(default)
}

/// The address this host uses towards other networks, or loopback where it has no route to any: what peers are given
/// when neither the configuration nor a rendezvous says more.
pub(crate) fn outward_address() -> IpAddr {
    // Connecting a UDP socket sends nothing; it only makes the kernel choose a route, here to an address that is
    // reserved for documentation.
    let chosen = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    chosen.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// The first IPv4 address of an interface, else its first global IPv6 address.
fn interface_address(interface: &str) -> Result<IpAddr, FabricError> {
    let all = if_addrs::get_if_addrs().map_err(|error| FabricError::system("getifaddrs", error))?;
    let usable = |address: &&if_addrs::Interface| address.name == interface && !address.is_link_local();
    let mut addresses = all.iter().filter(usable).map(if_addrs::Interface::ip).collect::<Vec<_>>();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| {
        let names: BTreeSet<&str> = all.iter().map(|address| address.name.as_str()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        FabricError::DataAddress {
            cause: format!(
                "the interface {interface} has no address on host {} (interfaces with one: {names})",
                name()
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outward_address_is_one_of_this_host() {
        assert!(std::net::TcpListener::bind((outward_address(), 0)).is_ok());
    }

    #[test]
    fn a_foreign_address_and_an_unknown_interface_are_refused() {
        let mut config = Config::new(0, 2);
        assert_eq!(
            data_address(&config, Ipv4Addr::LOCALHOST.into()).unwrap(),
            IpAddr::from(Ipv4Addr::LOCALHOST)
        );
        config.interface = Some("nosuch0".to_owned());
        let error = data_address(&config, Ipv4Addr::LOCALHOST.into()).unwrap_err().to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
        config.interface = Some("lo".to_owned());
        assert_eq!(
            data_address(&config, Ipv4Addr::LOCALHOST.into()).unwrap(),
            IpAddr::from(Ipv4Addr::LOCALHOST)
        );
        config.address = Some("203.0.113.9".parse().unwrap());
        assert!(
            data_address(&config, Ipv4Addr::LOCALHOST.into())
                .unwrap_err()
                .to_string()
                .contains("203.0.113.9")
        );
    }
}
