//! Which addresses are in one network: how the ports of two devices find each other.

use std::net::IpAddr;

/// An address of this host with the bits of it that name its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network of one of this host's addresses; `None` for one that it does not have (any more).
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        let entries = if_addrs::get_if_addrs().ok()?;
        let bits = match entries.into_iter().find(|entry| entry.ip() == address)?.addr {
            if_addrs::IfAddr::V4(address) => address.prefixlen,
            if_addrs::IfAddr::V6(address) => address.prefixlen,
        };
        Some(Self { address, bits })
    }

    pub(crate) fn has(self, other: IpAddr) -> bool {
        let (differing, width) = match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u128::from(ours.to_bits() ^ theirs.to_bits()), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits() ^ theirs.to_bits(), 128),
            _ => return false,
        };
        self.bits == 0 || differing >> (width - u32::from(self.bits).min(width)) == 0
    }
}

/// Which of `ours` each of `theirs` works with: one of its own network, in turn where there are several; none where others
/// have such a one and it has not, as with a cable that leads elsewhere. Where the two sides share no network at all, a
/// router stands between, and they work together by their order.
pub(crate) fn partners(theirs: &[IpAddr], ours: &[Option<Network>]) -> Vec<Option<usize>> {
    let mut uses = vec![0; ours.len()];
    let mut partner = |address: &IpAddr| {
        let reaches = |at: &usize| ours[*at].is_some_and(|network| network.has(*address));
        let found = (0..ours.len()).filter(reaches).min_by_key(|at| uses[*at])?;
        uses[found] += 1;
        Some(found)
    };
    let found: Vec<_> = theirs.iter().map(&mut partner).collect();
    if found.iter().all(Option::is_none) {
        return (0..theirs.len()).map(|at| Some(at % ours.len())).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), bits: bits.parse().unwrap() }
    }

    fn partners_of(theirs: &[&str], ours: &[&str]) -> Vec<Option<usize>> {
        let theirs: Vec<IpAddr> = theirs.iter().map(|text| text.parse().unwrap()).collect();
        let ours: Vec<_> = ours.iter().map(|text| Some(network(text))).collect();
        partners(&theirs, &ours)
    }

    #[test]
    fn ports_find_those_of_their_own_network_however_the_cables_cross() {
        let ours = ["192.168.100.1/24", "192.168.101.1/24"];
        assert_eq!(partners_of(&["192.168.100.2", "192.168.101.2"], &ours), [Some(0), Some(1)]);
        assert_eq!(partners_of(&["192.168.101.2", "192.168.100.2"], &ours), [Some(1), Some(0)]);
    }

    #[test]
    fn in_one_network_each_port_has_its_turn() {
        let ours = ["10.0.0.1/24", "10.0.0.2/24"];
        assert_eq!(partners_of(&["10.0.0.3", "10.0.0.4", "10.0.0.5"], &ours), [Some(0), Some(1), Some(0)]);
        assert_eq!(partners_of(&["10.0.0.3", "10.0.0.4"], &["10.0.0.1/24"]), [Some(0), Some(0)]);
    }

    #[test]
    fn behind_a_router_the_order_decides() {
        assert_eq!(
            partners_of(&["10.1.0.1", "10.2.0.1"], &["10.3.0.1/24", "10.4.0.1/24"]),
            [Some(0), Some(1)]
        );
        assert_eq!(partners(&["10.1.0.1".parse().unwrap()], &[None, None]), [Some(0)]);
    }

    #[test]
    fn a_port_that_no_rail_leads_to_has_no_partner() {
        let found = partners_of(&["192.168.100.2", "192.168.101.2"], &["192.168.100.1/24"]);
        assert_eq!(found, [Some(0), None]);
    }

    #[test]
    fn an_address_of_this_host_has_its_network() {
        let loopback = Network::of("127.0.0.1".parse().unwrap()).unwrap();
        assert!(loopback.has("127.9.9.9".parse().unwrap()) && !loopback.has("128.0.0.1".parse().unwrap()));
        assert!(!loopback.has("::1".parse().unwrap()));
        assert_eq!(Network::of("203.0.113.9".parse().unwrap()), None);
    }

    proptest! {
        /// Whatever a peer says of itself.
        #[test]
        fn a_partner_is_one_of_ours(theirs in proptest::collection::vec(any::<IpAddr>(), 1..5), count in 1usize..5, bits in 0u8..=32) {
            let address = "10.0.0.1".parse().unwrap();
            let ours = vec![Some(Network { address, bits }); count];
            let found = partners(&theirs, &ours);
            prop_assert_eq!(found.len(), theirs.len());
            prop_assert!(found.iter().flatten().all(|at| *at < count));
            prop_assert!(found.iter().any(Option::is_some), "one of them at least");
        }
    }
}
