//! The ways from one node to another: every network that both are on, by TCP, and by RDMA where both have it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::facts::{Facts, Interface};

/// What a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Plain Ethernet.
    Lan,
    /// A NIC that can do RDMA over Ethernet.
    Roce,
    /// A USB4 or Thunderbolt cable.
    Usb4,
    /// A software interface: a bridge, a tunnel, a pair between namespaces.
    Virtual,
}

/// What carries halo's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    Tcp,
    Rdma,
}

impl Carrier {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Rdma => "rdma",
        }
    }
}

/// One end of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub node: String,
    pub interface: String,
    pub address: IpAddr,
    /// The RDMA device on the interface.
    pub rdma: Option<String>,
}

/// A way from one node to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Path {
    pub kind: Kind,
    pub carrier: Carrier,
    pub ends: [End; 2],
    /// The slower end's link, in Gb/s; none where it does not say.
    pub link_gbit: Option<f64>,
    /// What the slot of the slower end can carry, in Gb/s.
    pub slot_gbit: Option<f64>,
}

impl Path {
    /// As the table names it.
    pub fn name(&self) -> String {
        let kind = match (self.kind, self.carrier) {
            (Kind::Roce, Carrier::Tcp) => "RoCE NIC by TCP",
            (_, Carrier::Rdma) => "RDMA",
            (Kind::Lan, _) => "LAN",
            (Kind::Usb4, _) => "USB4",
            (Kind::Virtual, _) => "virtual",
        };
        let [a, b] = &self.ends;
        let interfaces = if a.interface == b.interface {
            a.interface.clone()
        } else {
            format!("{}-{}", a.interface, b.interface)
        };
        format!("{kind} ({interfaces})")
    }
}

/// Bridges and the like join containers of one machine; their networks have the same addresses on every machine.
const INSIDE: [&str; 7] = ["lo", "docker", "podman", "virbr", "cni", "br-", "veth"];

/// All paths between two nodes.
pub fn between(a: (&str, &Facts), b: (&str, &Facts)) -> Vec<Path> {
    let mut paths = Vec::new();
    for ours in usable(a.1) {
        for theirs in usable(b.1) {
            if let Some((own, other)) = common(ours, theirs) {
                let end = |node: &str, interface: &Interface, address: IpAddr| End {
                    node: node.to_owned(),
                    interface: interface.name.clone(),
                    address,
                    rdma: interface.rdma.clone(),
                };
                let path = Path {
                    kind: kind(ours).max_by_specificity(kind(theirs)),
                    carrier: Carrier::Tcp,
                    ends: [end(a.0, ours, own), end(b.0, theirs, other)],
                    link_gbit: least(link(ours), link(theirs)),
                    slot_gbit: least(slot(ours), slot(theirs)),
                };
                if ours.rdma.is_some() && theirs.rdma.is_some() {
                    paths.push(Path { carrier: Carrier::Rdma, ..path.clone() });
                }
                paths.push(path);
            }
        }
    }
    // From the slowest to the fastest, as the guide has it.
    paths.sort_by(|a, b| {
        let order = |path: &Path| (path.carrier == Carrier::Rdma, path.kind == Kind::Roce);
        order(a).cmp(&order(b)).then(a.ends[0].interface.cmp(&b.ends[0].interface))
    });
    paths
}

fn usable(facts: &Facts) -> impl Iterator<Item = &Interface> {
    let inside = |interface: &&Interface| !INSIDE.iter().any(|prefix| interface.name.starts_with(prefix));
    facts.interfaces.iter().filter(|interface| interface.carrier).filter(inside)
}

/// An address of each in the same network.
fn common(ours: &Interface, theirs: &Interface) -> Option<(IpAddr, IpAddr)> {
    ours.addresses.iter().find_map(|(own, prefix)| {
        let same = |(other, length): &&(IpAddr, u8)| {
            let ours = network(*own, *prefix);
            length == prefix && own != other && ours.is_some() && ours == network(*other, *length)
        };
        theirs.addresses.iter().find(same).map(|(other, _)| (*own, *other))
    })
}

/// The network of an address; none for link-local ones, which are everywhere.
fn network(address: IpAddr, prefix: u8) -> Option<u128> {
    match address {
        IpAddr::V4(address)
            if !address.is_link_local() && !address.is_loopback() && (1..=32).contains(&prefix) =>
        {
            Some(u128::from(u32::from(address) >> (32 - prefix)) | 1 << 127)
        }
        IpAddr::V6(address) if address.segments()[0] & 0xffc0 != 0xfe80 && (1..=127).contains(&prefix) => {
            Some(u128::from(address) >> (128 - prefix))
        }
        _ => None,
    }
    .filter(|_| prefix > 0)
}

fn kind(interface: &Interface) -> Kind {
    if interface.driver.as_deref().is_some_and(|driver| driver.starts_with("thunderbolt"))
        || interface.name.starts_with("thunderbolt")
    {
        Kind::Usb4
    } else if interface.rdma.is_some() {
        Kind::Roce
    } else if interface.physical {
        Kind::Lan
    } else {
        Kind::Virtual
    }
}

impl Kind {
    /// A RoCE NIC whose other end is none is a LAN; anything with a virtual end is virtual.
    fn max_by_specificity(self, other: Self) -> Self {
        match (self, other) {
            (Self::Virtual, _) | (_, Self::Virtual) => Self::Virtual,
            (a, b) if a == b => a,
            _ => Self::Lan,
        }
    }
}

fn link(interface: &Interface) -> Option<f64> {
    interface.speed_mbit.filter(|speed| *speed > 0).map(|speed| speed as f64 / 1e3)
}

/// `16.0 GT/s PCIe` by 4 lanes carry 64 Gb/s, less the line code.
fn slot(interface: &Interface) -> Option<f64> {
    let transfers: f64 = interface.pcie_speed.as_ref()?.split(' ').next()?.parse().ok()?;
    let code = if transfers > 6.0 { 128.0 / 130.0 } else { 0.8 };
    interface.pcie_width.filter(|width| *width > 0).map(|width| transfers * f64::from(width) * code)
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;

    fn two() -> (Facts, Facts) {
        let (a, mut b) = (recorded::fedora(), recorded::fedora());
        for interface in &mut b.interfaces {
            for (address, _) in &mut interface.addresses {
                if let IpAddr::V4(own) = address {
                    let mut octets = own.octets();
                    octets[3] = octets[3].wrapping_add(1);
                    *address = IpAddr::from(octets);
                }
            }
        }
        (a, b)
    }

    #[test]
    fn every_common_network_is_a_path_and_a_roce_nic_is_two() {
        let (a, b) = two();
        let paths = between(("a", &a), ("b", &b));
        let rdma: Vec<_> = paths.iter().filter(|path| path.carrier == Carrier::Rdma).collect();
        assert_eq!(rdma.len(), 1, "{paths:#?}");
        assert_eq!(rdma[0].kind, Kind::Roce);
        assert!(rdma[0].slot_gbit.is_none_or(|slot| slot < 130.0));
        let tcp = paths.iter().find(|path| path.name().starts_with("RoCE NIC by TCP")).unwrap();
        assert_eq!((&tcp.ends, tcp.carrier), (&rdma[0].ends, Carrier::Tcp));
        assert_eq!(paths.last().unwrap().carrier, Carrier::Rdma);
    }

    #[test]
    fn networks_of_one_machine_alone_are_no_paths() {
        let (a, mut b) = two();
        // Link-local addresses are everywhere and join nothing.
        let link_local = vec![("fe80::1".parse().unwrap(), 64)];
        b.interfaces.iter_mut().for_each(|interface| interface.addresses.clone_from(&link_local));
        let mut a = a;
        a.interfaces[0].addresses.push(("fe80::2".parse().unwrap(), 64));
        assert_eq!(between(("a", &a), ("b", &b)), []);
        assert_eq!(network("169.254.1.1".parse().unwrap(), 16), None);
        assert_eq!(network("fe80::1".parse().unwrap(), 64), None);
        assert_eq!(network("10.0.0.1".parse().unwrap(), 30), network("10.0.0.2".parse().unwrap(), 30));
        assert_ne!(network("10.0.0.1".parse().unwrap(), 30), network("10.0.0.5".parse().unwrap(), 30));
    }
}
