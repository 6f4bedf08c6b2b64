//! How users name devices, interfaces and addresses: the forms that NCCL's variables have.

use std::net::IpAddr;
use std::str::FromStr;

/// A comma list of `name[:port]`: names by prefix, after `=` exact, after `^` those that are not meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NameList {
    exclude: bool,
    exact: bool,
    entries: Vec<(String, Option<u8>)>,
}

impl NameList {
    pub(crate) fn read(text: &str) -> Self {
        let text = text.trim();
        let (exclude, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (exact, text) = text.strip_prefix('=').map_or((false, text), |rest| (true, rest));
        let entries =
            text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| {
                match entry.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
                    Some((name, Ok(port))) => (name.to_owned(), Some(port)),
                    _ => (entry.to_owned(), None),
                }
            });
        Self { exclude, exact, entries: entries.collect() }
    }

    /// Whether a device (and port, where it has one) is meant. An empty list means all.
    pub(crate) fn admits(&self, name: &str, port: Option<u8>) -> bool {
        let fits = |(wanted, wanted_port): &(String, Option<u8>)| {
            let named = if self.exact { name == wanted } else { name.starts_with(wanted.as_str()) };
            named && (port.is_none() || wanted_port.is_none() || *wanted_port == port)
        };
        self.entries.is_empty() || self.entries.iter().any(fits) != self.exclude
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

impl FromStr for Family {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "AF_INET" => Ok(Self::V4),
            "AF_INET6" => Ok(Self::V6),
            _ => Err(()),
        }
    }
}

/// `address/bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressRange {
    network: IpAddr,
    bits: u32,
}

impl AddressRange {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (network, address, width) = match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
            _ => return false,
        };
        self.bits == 0 || (network ^ address) >> (width - self.bits) == 0
    }
}

impl FromStr for AddressRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let network: IpAddr = address.parse().map_err(|_| ())?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = if bits.is_empty() { width } else { bits.parse().map_err(|_| ())? };
        (bits <= width).then_some(Self { network, bits }).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_prefixes_unless_exact_and_ports_count_where_given() {
        let list = NameList::read("mlx5_1:2,irdma");
        assert!(list.admits("irdma0", Some(1)) && list.admits("mlx5_1", Some(2)));
        assert!(!list.admits("mlx5_1", Some(1)) && !list.admits("rxe0", Some(1)));
        assert!(list.admits("mlx5_10", Some(2)), "a prefix, as in NCCL");
        assert!(!NameList::read("=mlx5_1").admits("mlx5_10", Some(1)));
        assert!(NameList::read("").admits("anything", None));
    }

    #[test]
    fn a_caret_turns_the_list_around() {
        let list = NameList::read("^docker,lo");
        assert!(list.admits("eth0", None) && !list.admits("docker0", None) && !list.admits("lo", None));
        let exact = NameList::read("^=eth0");
        assert!(exact.admits("eth01", None) && !exact.admits("eth0", None));
    }

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        let range: AddressRange = "192.168.100.0/30".parse().unwrap();
        assert!(range.contains("192.168.100.2".parse().unwrap()));
        assert!(!range.contains("192.168.100.4".parse().unwrap()));
        assert!(!range.contains("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<AddressRange>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<AddressRange>().is_err() && "ten".parse::<AddressRange>().is_err());
        let host: AddressRange = "fd00::1".parse().unwrap();
        assert!(host.contains("fd00::1".parse().unwrap()) && !host.contains("fd00::2".parse().unwrap()));
    }
}
