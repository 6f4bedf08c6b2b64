//! Addresses and routes of the data network.

use std::net::IpAddr;

use super::Subject;
use super::check::Check;
use super::finding::Finding;

pub fn judge(subject: &Subject<'_>) -> Vec<Finding> {
    vec![address(subject), routes(subject)]
}

fn address(Subject { facts, node, config, .. }: &Subject<'_>) -> Finding {
    let wanted = format!("{}/{}", node.address, config.network.prefix);
    let Some(holder) = facts.holder(node.address) else {
        let found = format!("no interface has {}", node.address);
        return Finding::fail(Check::Address, found, "halo-cluster configure --apply");
    };
    let prefix = holder.addresses.iter().find(|(own, _)| *own == node.address).map(|(_, prefix)| *prefix);
    let found = format!("{}/{} on {}", node.address, prefix.unwrap_or_default(), holder.name);
    if let Some(interface) = node.interface.as_ref().filter(|interface| **interface != holder.name) {
        let remedy = format!("take it off {}, or correct `interface` of this node", holder.name);
        return Finding::fail(Check::Address, format!("{found}, not on {interface}"), remedy);
    }
    if prefix != Some(config.network.prefix) {
        let remedy = "halo-cluster configure --apply, or `network.prefix`";
        return Finding::fail(Check::Address, format!("{found}, {wanted} wanted"), remedy);
    }
    if facts.ssh_address == Some(node.address) {
        let remedy = "reach the node over another network: a broken cable would also block its diagnosis";
        return Finding::warn(Check::Address, format!("{found}, by which ssh comes in, too"), remedy);
    }
    Finding::pass(Check::Address, found)
}

fn routes(Subject { facts, node, config, .. }: &Subject<'_>) -> Finding {
    let Some(data) = facts.data_interface(node) else {
        return Finding::fail(Check::Routes, "there is no data interface", "see the check `nic`");
    };
    let defaults: Vec<_> = facts.default_routes().collect();
    if defaults.contains(&data.name.as_str()) && defaults.len() > 1 {
        let found = format!("default routes over {}", defaults.join(" and "));
        let remedy = "the data interface needs none: halo-cluster configure --apply";
        return Finding::fail(Check::Routes, found, remedy);
    }
    // Two interfaces in one network: replies leave by whichever the kernel likes.
    let also = facts.interfaces.iter().find(|other| {
        let inside = |(own, _): &(IpAddr, u8)| same_network(*own, node.address, config.network.prefix);
        other.name != data.name && other.addresses.iter().any(inside)
    });
    if let Some(also) = also {
        let found = format!("{} is in the same network as {}", also.name, data.name);
        let remedy = "give the data network addresses of its own, e.g. 192.168.100.0/24";
        return Finding::fail(Check::Routes, found, remedy);
    }
    Finding::pass(Check::Routes, format!("by {}", data.name))
}

/// Whether the first `prefix` bits are equal.
pub fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((a, size), (b, other)) = (bits(a), bits(b));
    let shift = 128 - u32::from(prefix.min(size));
    size == other && a.checked_shr(shift) == b.checked_shr(shift)
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;
    use crate::doctor::finding::Verdict;
    use crate::facts::{Facts, Route};

    fn found(change: impl FnOnce(&mut Facts)) -> Vec<(Verdict, String)> {
        let findings = recorded::judged("roce", change, judge);
        findings.into_iter().map(|finding| (finding.verdict, finding.found)).collect()
    }

    fn data(facts: &mut Facts) -> &mut crate::facts::Interface {
        facts.interfaces.iter_mut().find(|interface| interface.name == "enp193s0np0").unwrap()
    }

    #[test]
    fn networks_are_compared_by_their_bits() {
        let same = |a: &str, b: &str, prefix| same_network(a.parse().unwrap(), b.parse().unwrap(), prefix);
        assert!(same("192.168.100.1", "192.168.100.2", 30));
        assert!(!same("192.168.100.1", "192.168.100.5", 30));
        assert!(same("10.0.0.1", "10.255.0.1", 8));
        assert!(same("fd00::1", "fd00::2", 64));
        assert!(!same("fd00::1", "10.0.0.1", 8));
    }

    #[test]
    fn an_address_that_is_absent_or_elsewhere_or_of_another_size_fails() {
        assert_eq!(found(|_| {})[0], (Verdict::Pass, "192.168.100.1/30 on enp193s0np0".to_owned()));
        assert_eq!(
            found(|facts| data(facts).addresses.clear())[0],
            (Verdict::Fail, "no interface has 192.168.100.1".to_owned())
        );
        let moved = found(|facts| {
            let addresses = std::mem::take(&mut data(facts).addresses);
            facts.interfaces.iter_mut().find(|i| i.name == "enp191s0").unwrap().addresses = addresses;
        });
        assert_eq!(moved[0], (Verdict::Fail, "192.168.100.1/30 on enp191s0, not on enp193s0np0".to_owned()));
        assert_eq!(
            found(|facts| data(facts).addresses[0].1 = 16)[0].1,
            "192.168.100.1/16 on enp193s0np0, 192.168.100.1/30 wanted"
        );
        assert_eq!(found(|facts| facts.ssh_address = Some([192, 168, 100, 1].into()))[0].0, Verdict::Warn);
    }

    #[test]
    fn a_second_default_route_and_an_overlapping_network_fail() {
        let second = found(|facts| {
            let dev = Some("enp193s0np0".to_owned());
            facts.routes.push(Route { dst: "default".to_owned(), dev, gateway: None });
        });
        assert_eq!(second[1], (Verdict::Fail, "default routes over enp191s0 and enp193s0np0".to_owned()));
        let overlap = found(|facts| {
            let lan = facts.interfaces.iter_mut().find(|i| i.name == "enp191s0").unwrap();
            lan.addresses.push(([192, 168, 100, 2].into(), 24));
        });
        assert_eq!(overlap[1].1, "enp191s0 is in the same network as enp193s0np0");
    }
}
