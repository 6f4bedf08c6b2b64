//! Finds what joins the nodes: the best kind of link that all of them have, an interface on each, an address for each.

use std::net::{IpAddr, Ipv4Addr};

use super::{Answers, InitError};
use crate::config::Link;
use crate::facts::{Facts, Interface};

/// Names of interfaces that software makes; a data link is none of these.
const SOFTWARE: [&str; 14] = [
    "lo",
    "veth",
    "docker",
    "podman",
    "virbr",
    "br-",
    "cni",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "ifb",
    "dummy",
    "vnet",
];
/// Where the data network is, unless it is taken.
const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 168, 100, 0), 24);

/// What the kernel calls the first interface over USB4.
const USB4: &str = "thunderbolt0";

/// What the configuration will say of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub link: Link,
    pub prefix: u8,
    pub mtu: u32,
    /// Per node, in order.
    pub nodes: Vec<ChosenNode>,
}

/// What the configuration will say of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenNode {
    pub interface: String,
    pub address: IpAddr,
}

/// What a node could be joined by, best first.
pub fn candidates(facts: &Facts) -> Vec<&Interface> {
    let mut found: Vec<&Interface> = facts
        .interfaces
        .iter()
        .filter(|interface| !SOFTWARE.iter().any(|prefix| interface.name.starts_with(prefix)))
        .filter(|interface| !facts.ways_in().any(|way| way == interface.name))
        .filter(|interface| interface.physical || interface.carrier)
        .collect();
    found.sort_by_key(|interface| {
        (rank(interface.link()), !interface.carrier, !interface.physical, interface.name.clone())
    });
    found
}

fn rank(link: Link) -> u8 {
    match link {
        Link::Roce => 0,
        Link::Usb4 => 1,
        Link::Ethernet => 2,
    }
}

/// Chooses for all nodes.
pub fn choose(answers: &Answers, facts: &[Facts]) -> Result<Chosen, InitError> {
    let links = answers.link.map_or(vec![Link::Roce, Link::Usb4, Link::Ethernet], |link| vec![link]);
    let on_all = |link: &Link| {
        let pick = |(index, facts): (usize, &Facts)| interface(answers, index, facts, *link);
        facts.iter().enumerate().map(pick).collect::<Option<Vec<_>>>()
    };
    let found = links.iter().find_map(|link| on_all(link).map(|interfaces| (*link, interfaces)));
    let Some((link, interfaces)) = found else { return Err(none(answers, facts)) };
    let (addresses, prefix) = addresses(answers, facts, &interfaces)?;
    differ(answers, &addresses)?;
    let nodes = interfaces.into_iter().zip(addresses);
    let nodes = nodes.map(|(interface, address)| ChosenNode { interface, address }).collect();
    Ok(Chosen { link, prefix, mtu: 9000, nodes })
}

/// The node's interface of this kind: the one that was given, else the best.
fn interface(answers: &Answers, index: usize, facts: &Facts, link: Link) -> Option<String> {
    // The kernel makes it when its module is loaded, which `configure` does, and the cable is in.
    let may_come = answers.link == Some(Link::Usb4);
    if let Some(given) = &answers.nodes[index].interface {
        let known = facts.interfaces.iter().find(|interface| interface.name == *given);
        // One that was given by name may be anything, as long as it is not less than what was asked for.
        return known
            .map_or(may_come, |known| known.link() == link || link == Link::Ethernet)
            .then(|| given.clone());
    }
    let found = candidates(facts).into_iter().find(|interface| interface.link() == link);
    found.map(|interface| interface.name.clone()).or_else(|| may_come.then(|| USB4.to_owned()))
}

fn none(answers: &Answers, facts: &[Facts]) -> InitError {
    let describe = |(node, facts): (&super::NodeAnswer, &Facts)| {
        let names: Vec<_> = candidates(facts)
            .iter()
            .map(|interface| format!("{} ({})", interface.name, interface.link().name()))
            .collect();
        format!("{} has {}", node.name, if names.is_empty() { "none".to_owned() } else { names.join(", ") })
    };
    let found: Vec<_> = answers.nodes.iter().zip(facts).map(describe).collect();
    let wanted = answers.link.map(|link| format!(" of kind {}", link.name())).unwrap_or_default();
    InitError::NoLink { wanted, found: found.join("; ") }
}

/// Addresses that were given or are there already on all nodes, else new ones.
fn addresses(
    answers: &Answers,
    facts: &[Facts],
    interfaces: &[String],
) -> Result<(Vec<IpAddr>, u8), InitError> {
    let prefix_of = |facts: &Facts, name: &str, wanted: Option<IpAddr>| {
        let interface = facts.interfaces.iter().find(|interface| interface.name == name)?;
        let fits = |own: &&(IpAddr, u8)| {
            wanted.map_or(own.0.is_ipv4() && !is_link_local(own.0), |wanted| own.0 == wanted)
        };
        interface.addresses.iter().find(fits).copied()
    };
    let there = |index: usize| prefix_of(&facts[index], &interfaces[index], answers.nodes[index].address);
    let given: Option<Vec<IpAddr>> = answers.nodes.iter().map(|node| node.address).collect();
    let present: Option<Vec<(IpAddr, u8)>> = (0..facts.len()).map(there).collect();
    if let Some(given) = given {
        let prefix = present.and_then(|all| all.first().map(|(_, prefix)| *prefix));
        return Ok((given, answers.network.map(|(_, prefix)| prefix).or(prefix).unwrap_or(NETWORK.1)));
    }
    if let (Some(present), None) = (present, answers.network) {
        let prefix = present[0].1;
        let together = present.iter().all(|(address, own)| {
            *own == prefix && crate::doctor::same_network(*address, present[0].0, prefix)
        });
        if together {
            return Ok((present.into_iter().map(|(address, _)| address).collect(), prefix));
        }
    }
    let (network, prefix) = answers.network.unwrap_or_else(|| free_network(facts, interfaces));
    let first = u32::from(network) & (u32::MAX << (32 - u32::from(prefix)));
    let room = (1_u64 << (32 - u32::from(prefix))) - 2;
    if facts.len() as u64 > room {
        return Err(InitError::NoRoom { count: facts.len(), network: format!("{network}/{prefix}") });
    }
    let address = |index: usize| {
        let own = Ipv4Addr::from(first + 1 + index as u32);
        answers.nodes[index].address.unwrap_or(IpAddr::V4(own))
    };
    Ok(((0..facts.len()).map(address).collect(), prefix))
}

/// Two nodes with one address are one machine that was named twice, or two that were set up alike.
fn differ(answers: &Answers, addresses: &[IpAddr]) -> Result<(), InitError> {
    for (second, address) in addresses.iter().enumerate() {
        if let Some(first) = addresses[..second].iter().position(|other| other == address) {
            let name = |index: usize| answers.nodes[index].name.clone();
            return Err(InitError::SameAddress {
                first: name(first),
                second: name(second),
                address: *address,
            });
        }
    }
    Ok(())
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_link_local())
}

/// The usual network, or a neighbour of it that no other interface of any node is in.
fn free_network(facts: &[Facts], interfaces: &[String]) -> (Ipv4Addr, u8) {
    let taken = |network: Ipv4Addr| {
        facts.iter().zip(interfaces).any(|(facts, data)| {
            let others = facts.interfaces.iter().filter(|interface| interface.name != *data);
            others.flat_map(|interface| &interface.addresses).any(|(address, prefix)| {
                crate::doctor::same_network(*address, IpAddr::V4(network), NETWORK.1.min(*prefix))
            })
        })
    };
    let networks = (100..=250).map(|third| Ipv4Addr::new(192, 168, third, 0));
    (networks.into_iter().find(|network| !taken(*network)).unwrap_or(NETWORK.0), NETWORK.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;

    fn answers(nodes: &[&str]) -> Answers {
        Answers { nodes: nodes.iter().map(|node| node.parse().unwrap()).collect(), ..Answers::default() }
    }

    fn two() -> (Answers, Vec<Facts>) {
        (answers(&["a=local", "b=me@b"]), vec![recorded::ubuntu(), recorded::ubuntu()])
    }

    fn addresses_of(chosen: &Chosen) -> Vec<String> {
        chosen.nodes.iter().map(|node| format!("{} {}", node.interface, node.address)).collect()
    }

    #[test]
    fn the_best_link_that_all_have_is_taken_with_new_addresses() {
        let (answers, mut facts) = two();
        let chosen = choose(&answers, &facts).unwrap();
        assert_eq!((chosen.link, chosen.prefix), (Link::Roce, 24));
        assert_eq!(addresses_of(&chosen), ["enp193s0np0 192.168.100.1", "enp193s0np0 192.168.100.2"]);
        // One node has USB4 besides, the other has USB4 instead.
        let mut usb4 = facts[0].interfaces[1].clone();
        usb4.name = "thunderbolt0".to_owned();
        usb4.driver = Some("thunderbolt-net".to_owned());
        usb4.rdma = None;
        facts[0].interfaces.push(usb4.clone());
        facts[1].interfaces[1] = usb4;
        let chosen = choose(&answers, &facts).unwrap();
        assert_eq!(chosen.link, Link::Usb4);
        assert_eq!(addresses_of(&chosen), ["thunderbolt0 192.168.100.1", "thunderbolt0 192.168.100.2"]);
    }

    #[test]
    fn usb4_that_was_asked_for_may_come_later() {
        let (_, facts) = two();
        let mut asked = answers(&["a=local", "b=me@b,192.168.100.9,thunderbolt1"]);
        asked.link = Some(Link::Usb4);
        let chosen = choose(&asked, &facts).unwrap();
        assert_eq!(chosen.link, Link::Usb4);
        assert_eq!(addresses_of(&chosen), ["thunderbolt0 192.168.100.1", "thunderbolt1 192.168.100.9"]);
    }

    #[test]
    fn addresses_that_are_there_stay() {
        let (answers, _) = two();
        let (first, mut second) = (recorded::fedora(), recorded::fedora());
        second.interfaces[1].addresses = vec![("192.168.100.2".parse().unwrap(), 30)];
        let chosen = choose(&answers, &[first, second]).unwrap();
        assert_eq!(chosen.prefix, 30);
        assert_eq!(addresses_of(&chosen), ["enp193s0np0 192.168.100.1", "enp193s0np0 192.168.100.2"]);
    }

    #[test]
    fn one_address_on_two_nodes_is_refused_unless_new_ones_are_given_out() {
        let (mut answers, _) = two();
        let facts = [recorded::fedora(), recorded::fedora()];
        let error = choose(&answers, &facts).unwrap_err();
        assert_eq!(error.to_string(), "a and b have the same address 192.168.100.1");
        let twice = self::answers(&["a=local,10.0.0.1", "b=me@b,10.0.0.1"]);
        assert!(matches!(choose(&twice, &facts), Err(InitError::SameAddress { .. })));
        answers.network = Some(("192.168.7.0".parse().unwrap(), 24));
        let chosen = choose(&answers, &facts).unwrap();
        assert_eq!(addresses_of(&chosen), ["enp193s0np0 192.168.7.1", "enp193s0np0 192.168.7.2"]);
    }

    #[test]
    fn a_network_that_is_taken_is_left_to_its_owner() {
        let (answers, mut facts) = two();
        facts[1].interfaces[0].addresses = vec![("192.168.100.77".parse().unwrap(), 24)];
        facts[1].ssh_address = Some("192.168.100.77".parse().unwrap());
        let chosen = choose(&answers, &facts).unwrap();
        assert_eq!(addresses_of(&chosen)[1], "enp193s0np0 192.168.101.2");
    }

    #[test]
    fn what_was_given_is_taken_and_too_little_is_refused() {
        let (_, facts) = two();
        let given = answers(&["a=local,10.9.0.1", "b=me@b,10.9.0.7,enp193s0np0"]);
        assert_eq!(
            addresses_of(&choose(&given, &facts).unwrap()),
            ["enp193s0np0 10.9.0.1", "enp193s0np0 10.9.0.7"]
        );
        let mut asked = answers(&["a=local", "b=me@b"]);
        asked.link = Some(Link::Ethernet);
        assert_eq!(
            choose(&asked, &facts).unwrap_err().to_string(),
            "the nodes have no link in common of kind ethernet: a has enp193s0np0 (roce); b has enp193s0np0 (roce)"
        );
        let mut small = answers(&["a=local", "b=me@b", "c=me@c"]);
        small.network = Some(("10.0.0.0".parse().unwrap(), 30));
        let facts = vec![recorded::ubuntu(); 3];
        assert!(matches!(choose(&small, &facts), Err(InitError::NoRoom { count: 3, .. })));
    }
}
