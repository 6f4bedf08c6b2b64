//! Which NIC ports two ranks use together: agreed from what both have offered, then tried, before anything travels there.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hello::Hello;
use super::reception::Reception;
use crate::config::{Config, LostRail};
use crate::error::FabricError;
use crate::key::Key;
use crate::message::MAX_RAILS;
use crate::rdma::{Port, RdmaPorts};
use crate::wire::{Connection, Purpose};

/// How long a rank tries to reach a peer over the network of a further rail. Nobody is waited for: the peer listens before
/// it says so.
const TRY: Duration = Duration::from_secs(2);

/// A port with one of its GIDs, as it is offered to the other ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offered {
    /// Device, port and GID, for messages.
    pub(super) name: String,
    /// Equal for all GIDs of one port.
    pub(super) port: String,
    /// Where this rank listens in its network.
    pub(super) listens: SocketAddr,
    /// Bits of the address that name the network.
    pub(super) prefix: u8,
}

impl Offered {
    fn new(port: &Port, listens: SocketAddr) -> Self {
        Self { name: port.choice.to_string(), port: port.name(), listens, prefix: port.prefix }
    }

    fn network(&self) -> IpAddr {
        let bits = u32::from(self.prefix);
        match self.listens.ip() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        }
    }

    fn shares_network(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.network() == other.network()
    }
}

/// The places, among what each of two ranks offers, of the ports of one rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RailEnds {
    pub(super) ours: usize,
    pub(super) theirs: usize,
}

/// Listens in the network of every candidate but the first, whose is `address`; one where that cannot be is no candidate.
pub(super) fn listen(
    ports: &mut RdmaPorts,
    address: SocketAddr,
    config: &Config,
    key: &Key,
) -> Result<(Vec<Offered>, Vec<Reception>), FabricError> {
    let mut offered = vec![Offered::new(&ports.all[0], address)];
    let mut receptions = Vec::new();
    let mut usable = vec![ports.all[0].clone()];
    for port in ports.all.drain(..).skip(1) {
        match Reception::open(port.address(), config, key.clone()) {
            Ok(reception) => {
                offered.push(Offered::new(&port, reception.address()?));
                receptions.push(reception);
                usable.push(port);
            }
            Err(error) if ports.listed => return Err(error),
            Err(error) => tracing::debug!(port = port.name(), %error, "no rail by this port"),
        }
    }
    ports.all = usable;
    Ok((offered, receptions))
}

/// The rails of two ranks: the ports of the data addresses, then every pair of ports in one network. A network is used
/// once, since ports of one network cannot be told from the other side; unless both ranks list their devices, whose order
/// then says which belong together. Both ranks compute the same.
pub(super) fn agree(ours: &Hello, theirs: &Hello) -> Vec<RailEnds> {
    let (Ok(here), Ok(there)) = (&ours.rdma, &theirs.rdma) else { return Vec::new() };
    let listed = ours.rdma_listed && theirs.rdma_listed;
    if ours.rank < theirs.rank {
        let ends = matching(here, there, listed);
        return ends.into_iter().map(|(ours, theirs)| RailEnds { ours, theirs }).collect();
    }
    let ends = matching(there, here, listed);
    ends.into_iter().map(|(theirs, ours)| RailEnds { ours, theirs }).collect()
}

fn matching(lower: &[Offered], higher: &[Offered], listed: bool) -> Vec<(usize, usize)> {
    if lower.is_empty() || higher.is_empty() {
        return Vec::new();
    }
    let mut rails = vec![(0, 0)];
    for (index, candidate) in lower.iter().enumerate().skip(1) {
        let of_lower = |(used, _): &(usize, usize)| &lower[*used];
        let taken = rails
            .iter()
            .map(of_lower)
            .any(|used| used.port == candidate.port || (!listed && used.shares_network(candidate)));
        if taken || rails.len() == MAX_RAILS {
            continue;
        }
        let free = |other: &Offered| rails.iter().all(|(_, used)| higher[*used].port != other.port);
        let mut others = higher.iter().enumerate().skip(1);
        if let Some((found, _)) = others.find(|(_, other)| free(other) && candidate.shares_network(other)) {
            rails.push((index, found));
        }
    }
    rails
}

/// The further rails in words, for messages, and the ports that are left out; empty where there is nothing to say.
pub(super) fn describe(ours: &Hello, theirs: &Hello, rails: &[RailEnds]) -> String {
    let (Ok(here), Ok(there)) = (&ours.rdma, &theirs.rdma) else { return String::new() };
    let mut text = String::new();
    for rail in rails.iter().skip(1) {
        text += &format!("; also {} to {}", here[rail.ours].name, there[rail.theirs].name);
    }
    let sides = [(ours, here, true), (theirs, there, false)];
    for (hello, offered, is_ours) in sides.into_iter().filter(|_| !rails.is_empty()) {
        let place = |rail: &RailEnds| if is_ours { rail.ours } else { rail.theirs };
        let mut ports: Vec<&str> = offered.iter().map(|offered| offered.port.as_str()).collect();
        ports.dedup();
        ports.retain(|port| rails.iter().all(|rail| offered[place(rail)].port != **port));
        if !ports.is_empty() {
            let (rank, ports) = (hello.rank, ports.join(", "));
            text += &format!(
                "; rank {rank}'s {ports} left out: no port of the other in its network, or it cannot be reached"
            );
        }
    }
    text
}

/// Why a rail could not be reached, if it could not; for each rail but the first.
type Reached = Vec<Option<String>>;

/// Tries every further rail of a link: a control connection over its network. Those that cannot be reached are left out
/// on both sides, which is said.
pub(super) fn open_lines(
    config: &Config,
    theirs: &Hello,
    rails: &mut Vec<RailEnds>,
    control: &mut Connection,
    receptions: &mut [Reception],
    key: &Key,
    deadline: Instant,
) -> Result<Vec<TcpStream>, FabricError> {
    if rails.len() < 2 {
        return Ok(Vec::new());
    }
    let Ok(there) = &theirs.rdma else { return Ok(Vec::new()) };
    let peer = format!("rank {} ({})", theirs.rank, theirs.host);
    let mut streams = Vec::new();
    let reached: Reached = if theirs.rank < config.rank {
        let called = rails[1..].iter().map(|rail| call(&there[rail.theirs], deadline)).collect::<Vec<_>>();
        let reached: Reached = called.iter().map(|called| called.as_ref().err().cloned()).collect();
        control.send(&reached, deadline)?;
        for stream in called.into_iter().flatten() {
            let line = Connection::call(stream, peer.clone(), Purpose::Control, config.rank, key, deadline)?;
            streams.push(line.stream);
        }
        reached
    } else {
        let reached: Reached = control.receive(deadline)?;
        for (rail, _) in rails[1..].iter().zip(&reached).filter(|(_, cause)| cause.is_none()) {
            let reception = &mut receptions[rail.ours - 1];
            streams.push(reception.take(Purpose::Control, theirs.rank, &peer, deadline)?.stream);
        }
        reached
    };
    leave_out(config, theirs, rails, reached)?;
    Ok(streams)
}

/// Leaves out the rails that cannot be reached, or fails, as the configuration wants it.
fn leave_out(
    config: &Config,
    theirs: &Hello,
    rails: &mut Vec<RailEnds>,
    reached: Reached,
) -> Result<(), FabricError> {
    let Ok(there) = &theirs.rdma else { return Ok(()) };
    let mut reached = reached.into_iter();
    let mut kept = vec![rails[0]];
    for rail in &rails[1..] {
        let Some(cause) = reached.next().unwrap_or_else(|| Some("the peer did not try it".to_owned())) else {
            kept.push(*rail);
            continue;
        };
        let port = &there[rail.theirs];
        if config.lost_rail == LostRail::Error {
            let (transport, peer, host) = ("rdma", theirs.rank, theirs.host.clone());
            let cause = format!("its rail over {} cannot be reached: {cause}", port.name);
            return Err(FabricError::LinkSetup { transport, peer, host, cause });
        }
        let (rank, host) = (config.rank, &theirs.host);
        tracing::warn!(
            rank,
            peer = theirs.rank,
            host,
            rail = port.name,
            cause,
            "a rail cannot be reached and is left out"
        );
    }
    *rails = kept;
    Ok(())
}

fn call(port: &Offered, deadline: Instant) -> Result<TcpStream, String> {
    let patience = TRY.min(deadline.saturating_duration_since(Instant::now())).max(Duration::from_millis(1));
    TcpStream::connect_timeout(&port.listens, patience)
        .map_err(|error| format!("{} does not answer: {error}", port.listens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offered(port: &str, address: &str, prefix: u8) -> Offered {
        let listens = SocketAddr::new(address.parse().unwrap(), 1);
        Offered { name: format!("{port} ({address})"), port: port.to_owned(), listens, prefix }
    }

    #[test]
    fn ports_of_one_network_belong_together_and_others_are_left_out() {
        let lower = [
            offered("a:1", "10.0.0.1", 24),
            offered("b:1", "10.0.1.1", 24),
            offered("b:1", "10.0.2.1", 24),
            offered("c:1", "10.0.3.1", 24),
        ];
        let higher = [
            offered("x:1", "10.0.0.2", 24),
            offered("y:1", "10.0.9.2", 24),
            offered("z:1", "10.0.2.2", 24),
            offered("w:1", "10.0.1.2", 16),
        ];
        assert_eq!(matching(&lower, &higher, false), [(0, 0), (2, 2)]);
        assert_eq!(matching(&lower[..1], &higher, false), [(0, 0)]);
        assert_eq!(matching(&[], &higher, false), []);
    }

    #[test]
    fn a_network_is_used_once_unless_both_list_their_devices() {
        let lower =
            [offered("a:1", "10.0.0.1", 24), offered("b:1", "10.0.0.3", 24), offered("c:1", "fd00::1", 64)];
        let higher =
            [offered("x:1", "10.0.0.2", 24), offered("y:1", "10.0.0.4", 24), offered("z:1", "fd00::2", 64)];
        assert_eq!(matching(&lower, &higher, false), [(0, 0), (2, 2)]);
        assert_eq!(matching(&lower, &higher, true), [(0, 0), (1, 1), (2, 2)]);
    }

    proptest! {
        /// Whatever is offered: no port is used twice, both ends of a rail are in one network, and there are no more than
        /// can be.
        #[test]
        fn no_port_is_used_twice(
            lower in proptest::collection::vec((0u8..6, 0u8..4, 0u8..200), 1..12),
            higher in proptest::collection::vec((0u8..6, 0u8..4, 0u8..200), 1..12),
            listed: bool,
        ) {
            let side = |side: &[(u8, u8, u8)]| -> Vec<Offered> {
                let port = |(port, network, prefix): &(u8, u8, u8)| {
                    offered(&format!("p{port}"), &format!("10.0.{network}.1"), *prefix)
                };
                side.iter().map(port).collect()
            };
            let (lower, higher) = (side(&lower), side(&higher));
            let rails = matching(&lower, &higher, listed);
            prop_assert_eq!(rails[0], (0, 0));
            prop_assert!(rails.len() <= MAX_RAILS);
            for (index, (a, b)) in rails.iter().enumerate().skip(1) {
                prop_assert!(lower[*a].shares_network(&higher[*b]));
                for (other_a, other_b) in &rails[..index] {
                    prop_assert_ne!(&lower[*a].port, &lower[*other_a].port);
                    prop_assert_ne!(&higher[*b].port, &higher[*other_b].port);
                }
            }
        }
    }
}
