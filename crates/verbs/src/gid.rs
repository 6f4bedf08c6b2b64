//! GIDs, and the choice of the one that belongs to a data address. Never by a fixed index: indexes differ between hosts
//! and change when addresses do.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::device::{Context, LinkLayer, Port, PortState, TransportKind, devices};
use crate::error::Error;
use crate::sys;

/// What a GID is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GidKind {
    /// InfiniBand.
    InfiniBand,
    /// RoCE v1: not routable, not used by halo.
    RoceV1,
    /// RoCE v2: over UDP.
    RoceV2,
}

impl fmt::Display for GidKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InfiniBand => "IB",
            Self::RoceV1 => "RoCE v1",
            Self::RoceV2 => "RoCE v2",
        })
    }
}

/// One entry of a port's GID table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gid {
    /// Its place in the table.
    pub index: u32,
    /// The sixteen bytes.
    pub bytes: [u8; 16],
    /// What it is for.
    pub kind: GidKind,
    /// The network interface it belongs to, if known.
    pub interface: Option<String>,
}

impl Gid {
    /// The address this GID stands for: IPv4 where it is an IPv4-mapped one.
    pub fn address(&self) -> IpAddr {
        let address = Ipv6Addr::from(self.bytes);
        address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
    }

    /// Reads an entry; `None` where it is not set.
    pub(crate) fn read(context: &Context, port: u8, index: u32) -> Option<Self> {
        let from_library = Self::query(context, port, index);
        from_library
            .or_else(|| Self::from_sysfs(context.name(), port, index))
            .filter(|gid| gid.bytes != [0; 16])
    }

    fn query(context: &Context, port: u8, index: u32) -> Option<Self> {
        let query = context.library.query_gid_ex?;
        let mut entry = sys::ibv_gid_entry::default();
        let size = size_of::<sys::ibv_gid_entry>();
        // SAFETY: an open context; the entry is written, up to the size that is passed.
        let status = unsafe { query(context.raw.as_ptr(), u32::from(port), index, &raw mut entry, 0, size) };
        if status != 0 {
            return None;
        }
        let kind = match entry.gid_type {
            sys::IBV_GID_TYPE_ROCE_V2 => GidKind::RoceV2,
            sys::IBV_GID_TYPE_ROCE_V1 => GidKind::RoceV1,
            _ => GidKind::InfiniBand,
        };
        // SAFETY: sixteen bytes, in whichever form.
        let bytes = unsafe { entry.gid.raw };
        Some(Self { index, bytes, kind, interface: interface_name(entry.ndev_ifindex) })
    }

    /// The same facts as the kernel shows them as files, for a libibverbs that cannot be asked.
    fn from_sysfs(device: &str, port: u8, index: u32) -> Option<Self> {
        let folder = format!("/sys/class/infiniband/{device}/ports/{port}");
        let read = |file: String| std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
        let gid: Ipv6Addr = read(format!("{folder}/gids/{index}"))?.parse().ok()?;
        let kind = match read(format!("{folder}/gid_attrs/types/{index}"))?.as_str() {
            "RoCE v2" => GidKind::RoceV2,
            "IB/RoCE v1" => GidKind::RoceV1,
            _ => GidKind::InfiniBand,
        };
        let interface = read(format!("{folder}/gid_attrs/ndevs/{index}"));
        Some(Self { index, bytes: gid.octets(), kind, interface })
    }
}

fn interface_name(index: u32) -> Option<String> {
    let all = if_addrs::get_if_addrs().ok()?;
    all.into_iter().find(|interface| interface.index == Some(index)).map(|interface| interface.name)
}

/// A port and a GID to use.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The opened device.
    pub context: Arc<Context>,
    /// The port.
    pub port: Port,
    /// The GID.
    pub gid: Gid,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, port, gid) = (self.context.name(), self.port.number, &self.gid);
        write!(f, "{device} port {port} GID {} ({})", gid.index, gid.address())
    }
}

/// The active Ethernet port that has a RoCE v2 GID for `address`; only of the devices in `named` (`name` or `name:port`),
/// if any is named.
///
/// # Errors
/// No libibverbs, no device, or none that fits: the error lists every port and why it was refused.
pub fn choose(address: IpAddr, named: &[&str]) -> Result<Choice, Error> {
    let all = devices()?;
    if all.is_empty() {
        return Err(Error::NoDevices);
    }
    let names = all.iter().map(|device| device.name.as_str());
    let wanted: Vec<(&str, Option<u8>)> = match named {
        [] => names.map(|name| (name, None)).collect(),
        named => named.iter().map(|name| split_name(name)).collect(),
    };
    if let Some((given, _)) = wanted.iter().find(|(name, _)| all.iter().all(|device| device.name != *name)) {
        let available = all.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::UnknownDevice { given: (*given).to_owned(), available });
    }
    let mut refused = Vec::new();
    for (name, port) in wanted {
        match Context::open(name).and_then(|context| choose_on(&context, port, address, &mut refused)) {
            Ok(Some(choice)) => return Ok(choice),
            Ok(None) => {}
            Err(error) if !named.is_empty() => return Err(error),
            // Another device may still do.
            Err(error) => refused.push(error.to_string()),
        }
    }
    let looked_at = if refused.is_empty() { "no such port".to_owned() } else { refused.join("; ") };
    Err(Error::NoGid { address: address.to_string(), looked_at })
}

/// The first port of one device that fits; why the others do not is added to `refused`.
fn choose_on(
    context: &Arc<Context>,
    wanted_port: Option<u8>,
    address: IpAddr,
    refused: &mut Vec<String>,
) -> Result<Option<Choice>, Error> {
    for number in (1..=context.ports()?).filter(|number| wanted_port.is_none_or(|port| port == *number)) {
        let (port, gids) = (context.port(number)?, context.gids(number)?);
        match judge(context.device().transport, &port, &gids, address) {
            Ok(gid) => return Ok(Some(Choice { context: Arc::clone(context), port, gid: gid.clone() })),
            Err(cause) => refused.push(format!("{} port {number}: {cause}", context.name())),
        }
    }
    Ok(None)
}

pub(crate) fn split_name(named: &str) -> (&str, Option<u8>) {
    match named.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (named, None),
    }
}

/// Whether a port speaks RoCE now, or why not.
pub(crate) fn usable(transport: TransportKind, port: &Port) -> Result<(), String> {
    if transport == TransportKind::Iwarp {
        return Err(
            "it runs iWARP, not RoCE; for irdma set the parameter roce_ena=1 (or use devlink to enable RoCE)"
                .to_owned(),
        );
    }
    if port.link_layer != LinkLayer::Ethernet {
        return Err(format!("its link layer is {:?}, not Ethernet", port.link_layer));
    }
    if port.state != PortState::Active {
        return Err(format!("its state is {:?}, not active", port.state));
    }
    Ok(())
}

/// The GID to use on a port, or why there is none.
fn judge<'a>(
    transport: TransportKind,
    port: &Port,
    gids: &'a [Gid],
    address: IpAddr,
) -> Result<&'a Gid, String> {
    usable(transport, port)?;
    let matching = gids.iter().find(|gid| gid.kind == GidKind::RoceV2 && gid.address() == address);
    matching.ok_or_else(|| {
        let others =
            gids.iter().filter(|gid| gid.kind == GidKind::RoceV2).map(|gid| gid.address().to_string());
        let others = others.collect::<Vec<_>>().join(", ");
        let others = if others.is_empty() { "none".to_owned() } else { others };
        format!("its RoCE v2 GIDs are {others}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(state: PortState, link_layer: LinkLayer) -> Port {
        Port { number: 1, state, mtu: 4096, link_layer, gids: 4 }
    }

    fn gid(index: u32, kind: GidKind, address: &str) -> Gid {
        let bytes = match address.parse().unwrap() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        Gid { index, bytes, kind, interface: None }
    }

    #[test]
    fn the_roce_v2_gid_of_the_address_is_chosen_wherever_it_stands() {
        let gids = [
            gid(0, GidKind::RoceV1, "192.168.100.1"),
            gid(1, GidKind::RoceV2, "fe80::1"),
            gid(2, GidKind::RoceV2, "10.0.0.1"),
            gid(5, GidKind::RoceV2, "192.168.100.1"),
        ];
        let up = port(PortState::Active, LinkLayer::Ethernet);
        let address = "192.168.100.1".parse().unwrap();
        assert_eq!(judge(TransportKind::InfiniBand, &up, &gids, address).unwrap().index, 5);
        let other =
            judge(TransportKind::InfiniBand, &up, &gids, "192.168.100.9".parse().unwrap()).unwrap_err();
        assert!(other.contains("10.0.0.1") && other.contains("192.168.100.1"), "{other}");
    }

    #[test]
    fn iwarp_infiniband_and_dead_ports_are_refused_by_name() {
        let address = "192.168.100.1".parse().unwrap();
        let gids = [gid(0, GidKind::RoceV2, "192.168.100.1")];
        let refuse = |transport, port: Port| judge(transport, &port, &gids, address).unwrap_err();
        let up = port(PortState::Active, LinkLayer::Ethernet);
        assert!(refuse(TransportKind::Iwarp, up).contains("iWARP"));
        assert!(
            refuse(TransportKind::InfiniBand, port(PortState::Active, LinkLayer::InfiniBand))
                .contains("link layer")
        );
        assert!(
            refuse(TransportKind::InfiniBand, port(PortState::Down, LinkLayer::Ethernet)).contains("Down")
        );
    }

    #[test]
    fn device_names_may_carry_a_port() {
        assert_eq!(split_name("irdma0"), ("irdma0", None));
        assert_eq!(split_name("mlx5_0:2"), ("mlx5_0", Some(2)));
        assert_eq!(split_name("odd:name"), ("odd:name", None));
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_table_the_first_roce_v2_gid_of_the_address_is_taken_or_none(
            table in proptest::collection::vec((0..3u8, 0..4u8), 0..16),
        ) {
            let kinds = [GidKind::InfiniBand, GidKind::RoceV1, GidKind::RoceV2];
            let entries = table.iter().enumerate();
            let gids: Vec<Gid> = entries
                .map(|(index, (kind, host))| gid(index as u32, kinds[*kind as usize], &format!("10.0.0.{host}")))
                .collect();
            let up = port(PortState::Active, LinkLayer::Ethernet);
            let taken = judge(TransportKind::InfiniBand, &up, &gids, "10.0.0.1".parse().unwrap());
            let expected = table.iter().position(|entry| *entry == (2, 1));
            proptest::prop_assert_eq!(taken.ok().map(|gid| gid.index as usize), expected);
        }
    }
}
