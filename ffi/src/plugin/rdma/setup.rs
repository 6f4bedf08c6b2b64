//! From two devices to connected queue pairs, without waiting for either side.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use halo_fabric::{Arena, nonce};
use halo_verbs::{PathOptions, QueuePair, QueuePairAddress, QueuePairLimits, Remote};
use serde::{Deserialize, Serialize};

use super::lane::{DEPTH, Lane};
use super::layout;
use super::port_watch::PortWatch;
use super::rail::{Rail, deal};
use crate::plugin::comm::Failure;
use crate::plugin::connection::hello::Terms;
use crate::plugin::device::network::{Network, partners};
use crate::plugin::device::{Device, MAX_PORTS, RdmaPort, RdmaPorts};
use crate::plugin::error::PluginError;
use crate::plugin::protocol::MAX_LANES;

/// Which half of a connection this side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Sender,
    Receiver,
}

/// What the peer must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RdmaOffer {
    queue_pairs: Vec<Pair>,
    /// Where this side's memory begins, and the key to write there by each of its ports.
    address: u64,
    keys: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    number: u32,
    first_packet: u32,
    gid: [u8; 16],
    mtu: u32,
    /// Which of its side's ports it is on.
    rail: u8,
    /// Its number among the caller's; a listener's answers the caller's with the same.
    lane: u8,
}

impl RdmaOffer {
    /// Refuses a caller's that does not fit the terms.
    pub(crate) fn check(&self, terms: &Terms) -> Result<(), String> {
        if self.queue_pairs.len() == usize::from(terms.lanes) {
            self.check_answer(terms)
        } else {
            Err(self.odd())
        }
    }

    /// Refuses a listener's that does not fit the terms. It need not answer every queue pair.
    fn check_answer(&self, terms: &Terms) -> Result<(), String> {
        let sound = |pair: &Pair| {
            pair.mtu <= 4096 && usize::from(pair.rail) < self.keys.len() && pair.lane < terms.lanes
        };
        let fits = (1..=MAX_LANES).contains(&self.queue_pairs.len()) && self.keys.len() <= MAX_PORTS;
        let in_order = self.queue_pairs.is_sorted_by(|one, next| one.lane < next.lane);
        if fits && in_order && self.queue_pairs.iter().all(sound) { Ok(()) } else { Err(self.odd()) }
    }

    fn odd(&self) -> String {
        let (queue_pairs, ports) = (self.queue_pairs.len(), self.keys.len());
        format!("it offers {queue_pairs} queue pairs on {ports} ports, which is not what is meant")
    }

    /// The ports that have queue pairs, and their addresses.
    fn ports(&self) -> Vec<(u8, IpAddr)> {
        let mut ports: Vec<(u8, IpAddr)> = Vec::new();
        for Pair { rail, gid, .. } in &self.queue_pairs {
            if ports.iter().all(|(known, _)| known != rail) {
                ports.push((*rail, Ipv6Addr::from(*gid).to_canonical()));
            }
        }
        ports
    }

    /// Which of the ports in `networks` answers each queue pair; none where no rail leads to it.
    pub(super) fn rails_on(&self, networks: &[Option<Network>]) -> Vec<Option<usize>> {
        let ports = self.ports();
        let addresses: Vec<_> = ports.iter().map(|(_, address)| *address).collect();
        let found = partners(&addresses, networks);
        let rail_of = |pair: &Pair| {
            let at = ports.iter().position(|(rail, _)| *rail == pair.rail);
            at.and_then(|at| found[at])
        };
        self.queue_pairs.iter().map(rail_of).collect()
    }
}

/// The rails of a listener's queue pairs, for a caller's offer: each is in the network of its other end. The two need not
/// have as many ports, and a port that the other does not reach is left out.
fn answering_rails(
    device: &Device,
    ports: &RdmaPorts,
    theirs: &RdmaOffer,
) -> Result<Vec<Option<usize>>, PluginError> {
    if theirs.ports().len() == 1 && ports.count() == 1 {
        return Ok(vec![Some(0); theirs.queue_pairs.len()]);
    }
    let network = |port: &RdmaPort| Ok(Network::of(port.current_gid(&device.settings)?.address()));
    let networks = ports.iter().map(network).collect::<Result<Vec<_>, PluginError>>()?;
    Ok(theirs.rails_on(&networks))
}

/// Queue pairs that know themselves and not yet their peers.
#[derive(Debug)]
pub(crate) struct Pending {
    device: &'static Device,
    /// With their rails and their numbers among the caller's.
    pairs: Vec<(QueuePair, usize, u8)>,
    rails: Vec<Rail>,
    arena: Arc<Arena>,
    options: PathOptions,
    terms: Terms,
}

/// A connection's queue pairs and memory.
#[derive(Debug)]
pub(crate) struct Connected {
    // Queue pairs go before what they work with.
    pub(super) lanes: Vec<Lane>,
    /// One for each port of the device.
    pub(super) rails: Vec<Rail>,
    pub(super) arena: Arc<Arena>,
    /// With several ports.
    watch: Option<PortWatch>,
    /// Where the peer's memory begins, and the key for each of its ports.
    address: u64,
    keys: [u32; MAX_PORTS],
}

impl Pending {
    /// The sending half, which calls: its queue pairs are dealt out over the ports.
    pub(crate) fn calling(
        device: &'static Device,
        ports: &RdmaPorts,
        terms: &Terms,
    ) -> Result<Self, PluginError> {
        let rails: Vec<_> = deal(usize::from(terms.lanes), ports.count()).map(Some).collect();
        Self::new(device, ports, Role::Sender, &rails, terms)
    }

    /// The receiving half, which answers a caller's offer.
    pub(crate) fn answering(
        device: &'static Device,
        ports: &RdmaPorts,
        theirs: &RdmaOffer,
        terms: &Terms,
    ) -> Result<Self, PluginError> {
        let rails = answering_rails(device, ports, theirs)?;
        Self::new(device, ports, Role::Receiver, &rails, terms)
    }

    fn new(
        device: &'static Device,
        ports: &RdmaPorts,
        role: Role,
        dealt: &[Option<usize>],
        terms: &Terms,
    ) -> Result<Self, PluginError> {
        let refuse = |error: halo_verbs::Error| PluginError::system("setting up queue pairs", error);
        let (bytes, receives) = match role {
            Role::Sender => (layout::sender::BYTES, 0),
            Role::Receiver => (layout::receiver::bytes(terms.eager_bytes as usize), layout::RECEIVES),
        };
        let arena = Arena::allocate(bytes).map_err(|error| PluginError::system("memfd_create", error))?;
        let arena = Arc::new(arena);
        let rails = ports.iter().enumerate().map(|(rail, port)| {
            let queue_pairs = dealt.iter().filter(|other| **other == Some(rail)).count();
            Rail::new(device, port, &arena, queue_pairs, receives)
        });
        let rails = rails.collect::<Result<Vec<_>, _>>()?;
        let choices = ports.iter().map(|port| port.choice(&device.settings));
        let choices = choices.collect::<Result<Vec<_>, _>>()?;
        let limits = QueuePairLimits { sends: DEPTH, receives: receives as u32, inline_bytes: 8 };
        let used = dealt.iter().enumerate().filter_map(|(lane, at)| at.map(|at| (lane as u8, at)));
        let pairs = used.enumerate().map(|(place, (lane, at))| {
            // An unpredictable first packet number keeps packets of an earlier connection out of this one.
            let random = nonce().map_err(|error| PluginError::system("getrandom", error))?;
            let first = u32::from_le_bytes([random[0], random[1], random[2], 0]);
            let Rail { port, completions, .. } = &rails[at];
            let (domain, completions) = (Arc::clone(port.domain()?), Arc::clone(completions));
            let choice = choices[at].clone();
            let pair = QueuePair::new(domain, completions, choice, limits, first).map_err(refuse)?;
            // Before the sender can know of it.
            pair.post_receives(receives, place as u64).map_err(refuse)?;
            Ok((pair, at, lane))
        });
        let pairs = pairs.collect::<Result<_, PluginError>>()?;
        let mut options = device.settings.path;
        // A receiver sends announcements and nothing else.
        let announcements = device.settings.announcement_traffic_class.filter(|_| role == Role::Receiver);
        options.traffic_class = announcements.unwrap_or(terms.traffic_class);
        Ok(Self { device, pairs, rails, arena, options, terms: *terms })
    }

    /// What the peer must know.
    pub(crate) fn offer(&self) -> RdmaOffer {
        let pairs = self.pairs.iter().map(|(pair, rail, lane)| {
            let QueuePairAddress { number, first_packet, gid, mtu } = pair.address();
            Pair { number, first_packet, gid, mtu, rail: *rail as u8, lane: *lane }
        });
        RdmaOffer {
            queue_pairs: pairs.collect(),
            address: self.arena.base().as_ptr() as u64,
            keys: self.rails.iter().map(|rail| rail.region.remote_key()).collect(),
        }
    }

    /// Connects every queue pair to its peer; those that have none are given back.
    pub(crate) fn connect(self, theirs: &RdmaOffer, peer: &str) -> Result<Connected, PluginError> {
        let device = self.device.describe();
        theirs.check_answer(&self.terms).map_err(|cause| PluginError::Protocol {
            peer: peer.to_owned(),
            device: device.clone(),
            cause,
        })?;
        let both = self.pairs.into_iter().filter_map(|(pair, at, lane)| {
            let other_end = theirs.queue_pairs.iter().find(|theirs| theirs.lane == lane)?;
            Some((pair, at, other_end))
        });
        let lanes = both.map(|(pair, at, theirs)| {
            let Pair { number, first_packet, gid, mtu, rail, .. } = *theirs;
            let address = QueuePairAddress { number, first_packet, gid, mtu };
            pair.connect_with(&address, self.options).map_err(|error| PluginError::Connect {
                peer: peer.to_owned(),
                device: device.clone(),
                cause: format!("{}: {error}", self.rails[at].port.name()),
            })?;
            Ok(Lane::new(pair, at, usize::from(rail)))
        });
        let mut keys = [0; MAX_PORTS];
        keys[..theirs.keys.len()].copy_from_slice(&theirs.keys);
        let patience = self.device.settings.peer_timeout;
        Ok(Connected {
            lanes: lanes.collect::<Result<_, PluginError>>()?,
            watch: (self.rails.len() > 1).then(|| PortWatch::new(patience)),
            rails: self.rails,
            arena: self.arena,
            address: theirs.address,
            keys,
        })
    }
}

impl Connected {
    /// A place in the peer's memory, for a write by this lane.
    pub(super) fn remote(&self, lane: usize, offset: usize) -> Remote {
        let key = self.keys[self.lanes[lane].their_rail];
        Remote { address: self.address.wrapping_add(offset as u64), key }
    }

    /// Looks at this side's ports now and then, where they are several.
    pub(super) fn watch_ports(&mut self) -> Result<(), Failure> {
        let Some(mut watch) = self.watch.take() else { return Ok(()) };
        let looked = watch.look(|| self.port_that_is_down());
        self.watch = Some(watch);
        looked
    }

    /// The first of the ports in use that is not up.
    pub(super) fn port_that_is_down(&self) -> Option<&'static RdmaPort> {
        self.lanes.iter().map(|lane| self.rails[lane.rail].port).find(|port| !port.is_active())
    }

    /// For messages: how many queue pairs there are, and of several ports those that they are on.
    pub(crate) fn describe(&self) -> String {
        let used = |at: usize| self.lanes.iter().any(|lane| lane.rail == at);
        let ports = self.rails.iter().enumerate().filter(|(at, _)| used(*at));
        let names: Vec<_> = ports.map(|(_, rail)| rail.port.name()).collect();
        let by = if self.rails.len() > 1 { format!(" by {}", names.join(", ")) } else { String::new() };
        format!("{} lane(s){by}", self.lanes.len())
    }

    /// How many queue pairs there are.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The port that a lane is on.
    pub(super) fn rail(&self, lane: usize) -> &Rail {
        &self.rails[self.lanes[lane].rail]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn offer(rails: &[u8], keys: usize) -> RdmaOffer {
        let pair = |(lane, rail): (usize, &u8)| {
            let gid = std::net::Ipv4Addr::new(192, 168, 100 + rail, 1).to_ipv6_mapped().octets();
            Pair { number: 1, first_packet: 2, gid, mtu: 4096, rail: *rail, lane: lane as u8 }
        };
        let queue_pairs = rails.iter().enumerate().map(pair).collect();
        RdmaOffer { queue_pairs, address: 1, keys: vec![7; keys] }
    }

    fn terms(lanes: usize) -> Terms {
        Terms { eager_bytes: 0, stripe_bytes: 1, lanes: lanes as u8, traffic_class: 0 }
    }

    #[test]
    fn an_offer_has_the_queue_pairs_that_are_meant_on_ports_that_it_has() {
        assert_eq!(offer(&[0, 1, 0, 1], 2).check(&terms(4)), Ok(()));
        assert!(offer(&[0, 1], 2).check(&terms(4)).is_err());
        assert!(offer(&[0, 2], 2).check(&terms(2)).is_err(), "a port without a key");
        assert!(offer(&[0], 0).check(&terms(1)).is_err());
        assert!(offer(&[0, 1], 5).check(&terms(2)).is_err());
    }

    #[test]
    fn a_listener_may_leave_queue_pairs_out_and_must_answer_each_once() {
        let answer = |lanes: &[u8]| {
            let mut offer = offer(&vec![0; lanes.len()], 1);
            offer.queue_pairs.iter_mut().zip(lanes).for_each(|(pair, lane)| pair.lane = *lane);
            offer.check_answer(&terms(4))
        };
        assert_eq!((answer(&[0, 1, 2, 3]), answer(&[1, 3])), (Ok(()), Ok(())));
        assert!(answer(&[]).is_err() && answer(&[1, 1]).is_err() && answer(&[4]).is_err());
    }

    #[test]
    fn queue_pairs_are_dealt_out_in_turn() {
        assert_eq!(deal(4, 2).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!(deal(3, 1).collect::<Vec<_>>(), [0, 0, 0]);
        assert_eq!(deal(6, 3).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_ports_of_an_offer_are_told_once_each() {
        let ports = offer(&[0, 1, 0, 1], 2).ports();
        let address = |port: u8| IpAddr::from([192, 168, 100 + port, 1]);
        assert_eq!(ports, [(0, address(0)), (1, address(1))]);
    }

    proptest! {
        /// What is let through finds a key for each of its queue pairs.
        #[test]
        fn every_queue_pair_that_is_let_through_has_a_key(rails in proptest::collection::vec(0u8..6, 0..10), keys in 0usize..7) {
            let offer = offer(&rails, keys);
            if offer.check(&terms(rails.len())).is_ok() {
                prop_assert!(offer.keys.len() <= MAX_PORTS);
                prop_assert!(rails.iter().all(|rail| usize::from(*rail) < keys));
            }
        }
    }
}
