//! From agreed greetings to a [`Mesh`]: control connections, offers, links, and the moment when all are ready.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::hello::{Hello, carrier, choose};
use super::rails::{self, RailEnds};
use super::reception::{Reception, Receptions};
use super::rendezvous::call_until;
use super::segments;
use crate::arena::Arena;
use crate::config::Config;
use crate::control::{Control, ControlPeer, RailTalk, RemoteBell};
use crate::error::FabricError;
use crate::host;
use crate::key::Key;
use crate::layout::Layout;
use crate::link::{AnyLink, Transport};
use crate::mesh::{LinkInfo, Mesh, Peer, Place};
use crate::pages::{self, Pages};
use crate::rdma::{RdmaEndpoint, RdmaOffer, RdmaPending, RdmaPorts, Way};
use crate::shm::{ShmExchange, ShmLink, ShmOffer};
use crate::tcp::TcpLink;
use crate::wire::{Connection, Purpose};

/// What a rank tells one peer so that it can write here.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Offer {
    Shm(ShmOffer),
    Rdma(RdmaOffer),
    Tcp,
}

/// Said on every control connection when all links of a rank stand.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready;

/// A peer while its link is being made.
struct Joining {
    info: LinkInfo,
    control: Connection,
    /// Control connections in the networks of further rails.
    lines: Vec<TcpStream>,
    rails: Vec<RailEnds>,
    /// Where a link of several rails speaks of them.
    talk: Option<Arc<RailTalk>>,
    /// Where a link over rdma rings, and asks to be rung.
    bell: Arc<RemoteBell>,
    rdma: Option<RdmaPending>,
}

/// A peer for which a transport was chosen.
struct Chosen {
    info: LinkInfo,
    /// None unless it is rdma.
    rails: Vec<RailEnds>,
}

/// A communicator of one rank: no peers, nothing to open.
pub(super) fn alone(config: &Config) -> Result<Mesh, FabricError> {
    let layout = layout(config);
    let Pages { arena, description: pages } = allocate(layout, None)?;
    let control = Control::start(1, Vec::new(), config.peer_timeout, None)?;
    let arena = Arc::new(arena);
    let (address, carrier) = (host::outward_address(), carrier(&[])?);
    let place = Place { address, carrier, layout, arena, pages, endpoint: None };
    Ok(Mesh::assemble(0, place, vec![None], control))
}

/// Opens everything. Every rank runs through the same steps in the same order.
pub(super) fn connect(
    config: &Config,
    address: IpAddr,
    hellos: &[Hello],
    mut receptions: Receptions,
    ports: Result<RdmaPorts, String>,
    key: &Key,
    deadline: Instant,
) -> Result<Mesh, FabricError> {
    let layout = layout(config);
    let choices = choose_all(config.rank, hellos)?;
    let carrier = carrier(hellos)?;
    let uses = |transport| choices.iter().flatten().any(|chosen: &Chosen| chosen.info.transport == transport);
    let first = ports.as_ref().ok().filter(|_| uses(Transport::Rdma)).map(RdmaPorts::first);
    let device = first.map(|first| first.context.name());
    let Pages { arena, description: pages } = allocate(layout, device)?;
    let arena = Arc::new(arena);
    tracing::info!(rank = config.rank, bytes = arena.len(), pages, "arena allocated");
    let mut exchange = if uses(Transport::Shm) { Some(ShmExchange::open()?) } else { None };
    let endpoint = match ports {
        Ok(ports) if uses(Transport::Rdma) => {
            let rails = choices.iter().flatten().flat_map(|chosen| &chosen.rails);
            let mut used: Vec<usize> = rails.map(|rail| rail.ours).collect();
            used.sort_unstable();
            used.dedup();
            Some(ports.register(Arc::clone(&arena), layout, &used)?)
        }
        _ => None,
    };

    let mut joining = Vec::new();
    for Chosen { info, rails } in choices.into_iter().flatten() {
        let (theirs, reception) = (&hellos[info.peer], &mut receptions.first);
        let control = meet(config, theirs, Purpose::Control, reception, key, deadline)?;
        let bell = Arc::new(RemoteBell::new(Arc::clone(&arena), layout.bell()));
        joining.push(Joining { info, control, lines: Vec::new(), rails, talk: None, bell, rdma: None });
    }
    for Joining { info, control, lines, rails, talk, .. } in &mut joining {
        let (theirs, further) = (&hellos[info.peer], &mut receptions.further);
        *lines = rails::open_lines(config, theirs, rails, control, further, key, deadline)?;
        *talk = (rails.len() > 1).then(Arc::default);
        let more = rails::describe(&hellos[config.rank], theirs, rails);
        if !more.is_empty() {
            tracing::info!(rank = config.rank, peer = info.peer, host = info.host, more, "rails");
            info.reason += &more;
        }
    }
    let offers =
        exchange_offers(config, &mut joining, exchange.as_ref(), endpoint.as_ref(), layout, deadline)?;
    let arenas = share_memory(config, &joining, &offers, exchange.as_mut(), &arena, deadline)?;

    let mut links = Vec::new();
    for ((peer, offer), theirs) in joining.iter_mut().zip(offers).zip(arenas) {
        let failed = |cause: String| FabricError::LinkSetup {
            transport: peer.info.transport.name(),
            peer: peer.info.peer,
            host: peer.info.host.clone(),
            cause,
        };
        links.push(match (offer, theirs, peer.rdma.take()) {
            (Offer::Shm(_), Some(theirs), _) => {
                AnyLink::Shm(ShmLink::new(config.rank, peer.info.peer, layout, theirs))
            }
            (Offer::Rdma(offer), _, Some(pending)) => AnyLink::Rdma(pending.connect(offer).map_err(failed)?),
            (Offer::Tcp, ..) => {
                let hello = &hellos[peer.info.peer];
                let reception = &mut receptions.first;
                let connect = || meet(config, hello, Purpose::Data, reception, key, deadline);
                let mut connections = numbered(config, peer.info.peer, connect, deadline)?;
                // The others go the same way.
                let size = segments::exchange(&mut connections[0], &mut peer.control, &peer.info, deadline)?;
                tracing::info!(rank = config.rank, peer = peer.info.peer, size, "tcp segments");
                let streams = connections.into_iter().map(|connection| connection.stream).collect();
                let link = TcpLink::new(streams, config.rank, peer.info.peer, layout);
                AnyLink::Tcp(link.map_err(|error| failed(error.to_string()))?)
            }
            _ => return Err(failed("both ranks chose different transports".to_owned())),
        });
    }
    all_ready(&mut joining, deadline)?;
    let place = Place { address, carrier, layout, arena, pages, endpoint };
    assemble(config, place, joining, links)
}

fn layout(config: &Config) -> Layout {
    Layout { world: config.world, slot_bytes: config.slot_bytes, slots: config.slots }
}

fn allocate(layout: Layout, device: Option<&str>) -> Result<Pages, FabricError> {
    let bytes = layout.arena_bytes();
    pages::allocate(bytes, device).map_err(|cause| FabricError::ArenaMemory {
        bytes,
        world: layout.world,
        cause,
    })
}

fn choose_all(rank: usize, hellos: &[Hello]) -> Result<Vec<Option<Chosen>>, FabricError> {
    let choose_one = |(peer, theirs): (usize, &Hello)| {
        if peer == rank {
            return Ok(None);
        }
        let (transport, reason) = choose(&hellos[rank], theirs)?;
        let uses_rails = transport == Transport::Rdma;
        let rails = if uses_rails { rails::agree(&hellos[rank], theirs) } else { Vec::new() };
        tracing::info!(rank, peer, host = theirs.host, %transport, reason, "transport chosen");
        Ok(Some(Chosen { info: LinkInfo { peer, host: theirs.host.clone(), transport, reason }, rails }))
    };
    hellos.iter().enumerate().map(choose_one).collect()
}

/// A connection with a peer: the higher rank calls, the lower one answers.
fn meet(
    config: &Config,
    theirs: &Hello,
    purpose: Purpose,
    reception: &mut Reception,
    key: &Key,
    deadline: Instant,
) -> Result<Connection, FabricError> {
    let peer = format!("rank {} ({})", theirs.rank, theirs.host);
    if theirs.rank > config.rank {
        return reception.take(purpose, theirs.rank, &peer, deadline);
    }
    let address = theirs.address.to_string();
    let failed = |cause| FabricError::Handshake { peer: format!("{peer} at {address}"), cause };
    let stream = call_until(&address, deadline, &config.interrupt, failed)?;
    let mut connection = Connection::call(stream, peer, purpose, config.rank, key, deadline)?;
    connection.interrupt = config.interrupt.clone();
    Ok(connection)
}

/// The connections of a link over tcp, in the order in which both ends use them: the listener may hear the callers in
/// another.
fn numbered(
    config: &Config,
    peer: usize,
    mut connect: impl FnMut() -> Result<Connection, FabricError>,
    deadline: Instant,
) -> Result<Vec<Connection>, FabricError> {
    let mut connections = BTreeMap::new();
    for number in 0..config.tcp_sockets as u32 {
        let mut connection = connect()?;
        let number = if peer < config.rank {
            connection.send(&number, deadline)?;
            number
        } else {
            connection.receive(deadline)?
        };
        if let Some(before) = connections.insert(number, connection) {
            let cause = format!("two connections have the number {number}");
            return Err(FabricError::Handshake { peer: before.peer, cause });
        }
    }
    Ok(connections.into_values().collect())
}

fn exchange_offers(
    config: &Config,
    joining: &mut [Joining],
    exchange: Option<&ShmExchange>,
    endpoint: Option<&RdmaEndpoint>,
    layout: Layout,
    deadline: Instant,
) -> Result<Vec<Offer>, FabricError> {
    for peer in joining.iter_mut() {
        let offer = match (peer.info.transport, exchange, endpoint) {
            (Transport::Shm, Some(exchange), _) => Offer::Shm(exchange.offer().clone()),
            (Transport::Rdma, _, Some(endpoint)) => {
                let way = Way {
                    rank: config.rank,
                    peer: peer.info.peer,
                    host: peer.info.host.clone(),
                    layout,
                    on_loss: config.lost_rail,
                    talk: peer.talk.clone(),
                    bell: Arc::clone(&peer.bell),
                };
                let ports: Vec<usize> = peer.rails.iter().map(|rail| rail.ours).collect();
                let pending = endpoint.prepare(way, &ports)?;
                let offer = pending.offer();
                peer.rdma = Some(pending);
                Offer::Rdma(offer)
            }
            _ => Offer::Tcp,
        };
        peer.control.send(&offer, deadline)?;
    }
    joining.iter_mut().map(|peer| peer.control.receive(deadline)).collect()
}

/// Pushes this rank's arena to every peer on this host and takes theirs.
fn share_memory(
    config: &Config,
    joining: &[Joining],
    offers: &[Offer],
    exchange: Option<&mut ShmExchange>,
    arena: &Arena,
    deadline: Instant,
) -> Result<Vec<Option<Arena>>, FabricError> {
    let mut taken: Vec<Option<Arena>> = joining.iter().map(|_| None).collect();
    let Some(exchange) = exchange else { return Ok(taken) };
    for offer in offers {
        if let Offer::Shm(offer) = offer {
            ShmExchange::push(offer, config.rank, arena, deadline)?;
        }
    }
    for _ in offers.iter().filter(|offer| matches!(offer, Offer::Shm(_))) {
        let (rank, theirs) = exchange.take(arena.len(), deadline)?;
        if let Some(place) = joining.iter().position(|peer| peer.info.peer == rank) {
            taken[place] = Some(theirs);
        }
    }
    Ok(taken)
}

/// Nobody writes to a peer before that peer has everything in place.
fn all_ready(joining: &mut [Joining], deadline: Instant) -> Result<(), FabricError> {
    for peer in joining.iter_mut() {
        peer.control.send(&Ready, deadline)?;
    }
    joining.iter_mut().try_for_each(|peer| peer.control.receive::<Ready>(deadline).map(|_| ()))
}

fn assemble(
    config: &Config,
    place: Place,
    joining: Vec<Joining>,
    links: Vec<AnyLink>,
) -> Result<Mesh, FabricError> {
    let mut peers: Vec<Option<Peer>> = (0..config.world).map(|_| None).collect();
    let mut controls = Vec::new();
    for (joined, link) in joining.into_iter().zip(links) {
        let Joining { info, control, lines, talk: rails, bell, .. } = joined;
        let (rank, host) = (info.peer, info.host.clone());
        let streams = std::iter::once(control.stream).chain(lines).collect();
        controls.push(ControlPeer { rank, host, streams, rails, bell });
        peers[rank] = Some(Peer::new(info, link, place.layout.slots));
    }
    let ports = place.endpoint.as_ref().and_then(RdmaEndpoint::port_watch);
    let control = Control::start(config.world, controls, config.peer_timeout, ports)?;
    Ok(Mesh::assemble(config.rank, place, peers, control))
}
