//! What a rank tells the others before anything is opened, and the checks that all ranks agree.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::rails::Offered;
use crate::config::{Config, LostRail, TransportChoice};
use crate::error::FabricError;
use crate::host;
use crate::key::nonce;
use crate::link::Transport;
use crate::wire::PROTOCOL_VERSION;

/// A rank's greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: String,
    pub(super) rank: usize,
    pub(super) world: usize,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) pid: u32,
    /// Equal for processes that can share memory.
    pub(super) host_identity: String,
    /// Where this rank takes control and data connections.
    pub(super) address: SocketAddr,
    pub(super) tcp_sockets: usize,
    pub(super) slot_bytes: usize,
    pub(super) slots: usize,
    pub(super) transport: TransportChoice,
    pub(super) lost_rail: LostRail,
    /// What the layer above must have in common.
    pub(super) agreed: Vec<(String, String)>,
    /// The RDMA ports, that of the data address first, or why there is none.
    pub(super) rdma: Result<Vec<Offered>, String>,
    /// Whether the user has listed several devices.
    pub(super) rdma_listed: bool,
    /// Tells two processes with one rank apart.
    pub(super) nonce: [u8; 32],
}

impl Hello {
    pub(super) fn new(
        config: &Config,
        address: SocketAddr,
        rdma: Result<Vec<Offered>, String>,
        rdma_listed: bool,
    ) -> Result<Self, FabricError> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rank: config.rank,
            world: config.world,
            name: config.name.clone(),
            host: host::name(),
            pid: std::process::id(),
            host_identity: host::identity()?,
            address,
            tcp_sockets: config.tcp_sockets,
            slot_bytes: config.slot_bytes,
            slots: config.slots,
            transport: config.transport,
            lost_rail: config.lost_rail,
            agreed: config.agreed.iter().map(|(what, value)| ((*what).to_owned(), value.clone())).collect(),
            rdma,
            rdma_listed,
            nonce: nonce()?,
        })
    }

    /// The protocol version, which never moves, then the rest in that version's form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = PROTOCOL_VERSION.to_le_bytes().to_vec();
        bytes.extend(postcard::to_allocvec(self).expect("a greeting is plain data"));
        bytes
    }

    pub(super) fn decode(bytes: &[u8], peer: &str) -> Result<Self, FabricError> {
        let failed = |cause: String| FabricError::Handshake { peer: peer.to_owned(), cause };
        let (version, body) =
            bytes.split_first_chunk::<4>().ok_or_else(|| failed("its greeting is cut short".to_owned()))?;
        let theirs = u32::from_le_bytes(*version);
        if theirs != PROTOCOL_VERSION {
            return Err(FabricError::ProtocolVersion {
                peer: peer.to_owned(),
                theirs,
                ours: PROTOCOL_VERSION,
            });
        }
        postcard::from_bytes(body).map_err(|error| failed(format!("its greeting cannot be read: {error}")))
    }

    /// The process, for messages.
    pub(super) fn process(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }
}

fn disagreement(
    what: &str,
    our_rank: usize,
    ours: (&Hello, String),
    rank: usize,
    theirs: (&Hello, String),
) -> FabricError {
    FabricError::Disagreement {
        what: what.to_owned(),
        rank,
        host: theirs.0.host.clone(),
        theirs: theirs.1,
        our_rank,
        our_host: ours.0.host.clone(),
        ours: ours.1,
    }
}

/// The world size is checked as greetings come in: with another one, some would never come.
pub(super) fn agree_on_world(
    our_rank: usize,
    ours: &Hello,
    rank: usize,
    theirs: &Hello,
) -> Result<(), FabricError> {
    if ours.world == theirs.world {
        return Ok(());
    }
    let sizes = (ours.world.to_string(), theirs.world.to_string());
    Err(disagreement("world size", our_rank, (ours, sizes.0), rank, (theirs, sizes.1)))
}

/// Checks everything that must be equal on all ranks.
pub(super) fn agree(our_rank: usize, hellos: &[Hello]) -> Result<(), FabricError> {
    let ours = &hellos[our_rank];
    for (rank, theirs) in hellos.iter().enumerate() {
        let settings = [
            ("halo version", ours.version.clone(), theirs.version.clone()),
            ("tcp_sockets", ours.tcp_sockets.to_string(), theirs.tcp_sockets.to_string()),
            ("slot_bytes", ours.slot_bytes.to_string(), theirs.slot_bytes.to_string()),
            ("slots", ours.slots.to_string(), theirs.slots.to_string()),
            ("transport", ours.transport.to_string(), theirs.transport.to_string()),
            ("lost_rail", ours.lost_rail.to_string(), theirs.lost_rail.to_string()),
            ("communicator name", ours.name.clone(), theirs.name.clone()),
        ];
        let settings = settings.into_iter().map(|(what, ours, theirs)| (what.to_owned(), ours, theirs));
        let above = ours.agreed.iter().map(|(what, value)| {
            let found = theirs.agreed.iter().find(|(name, _)| name == what);
            let their_value = found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone());
            (what.clone(), value.clone(), their_value)
        });
        for (what, our_value, their_value) in settings.chain(above) {
            if our_value != their_value {
                return Err(disagreement(&what, our_rank, (ours, our_value), rank, (theirs, their_value)));
            }
        }
    }
    Ok(())
}

/// Which transport two ranks use, and why. Symmetric: both compute the same.
pub(super) fn choose(ours: &Hello, theirs: &Hello) -> Result<(Transport, String), FabricError> {
    let shm = if ours.host_identity == theirs.host_identity {
        Ok("both ranks are on one host".to_owned())
    } else {
        Err(format!("rank {} is on {}, rank {} on {}", ours.rank, ours.host, theirs.rank, theirs.host))
    };
    let first = |ports: &[Offered]| ports.first().map_or("no port", |port| &port.name).to_owned();
    let rdma = match (&ours.rdma, &theirs.rdma) {
        (Ok(here), Ok(there)) => Ok(format!("{} to {}", first(here), first(there))),
        (Err(cause), _) => Err(format!("rank {} on {}: {cause}", ours.rank, ours.host)),
        (_, Err(cause)) => Err(format!("rank {} on {}: {cause}", theirs.rank, theirs.host)),
    };
    let unavailable = |transport: Transport, cause: String| FabricError::TransportUnavailable {
        transport: transport.name(),
        rank: ours.rank,
        peer: theirs.rank,
        cause,
    };
    match ours.transport {
        TransportChoice::Shm => {
            shm.map(|why| (Transport::Shm, why)).map_err(|cause| unavailable(Transport::Shm, cause))
        }
        TransportChoice::Rdma => {
            rdma.map(|why| (Transport::Rdma, why)).map_err(|cause| unavailable(Transport::Rdma, cause))
        }
        TransportChoice::Tcp => Ok((Transport::Tcp, "tcp was asked for".to_owned())),
        TransportChoice::Auto => Ok(match (shm, rdma) {
            (Ok(why), _) => (Transport::Shm, why),
            (_, Ok(why)) => (Transport::Rdma, why),
            (Err(no_shm), Err(no_rdma)) => (Transport::Tcp, format!("no shm: {no_shm}; no rdma: {no_rdma}")),
        }),
    }
}

/// What carries payloads between the ranks: one transport's name, `mixed`, or `local` for a single rank. All ranks
/// compute the same from the same greetings, though each may see but one transport itself.
pub(super) fn carrier(hellos: &[Hello]) -> Result<&'static str, FabricError> {
    let mut common = None;
    for (rank, ours) in hellos.iter().enumerate() {
        for theirs in &hellos[rank + 1..] {
            let (transport, _) = choose(ours, theirs)?;
            if *common.get_or_insert(transport) != transport {
                return Ok("mixed");
            }
        }
    }
    Ok(common.map_or("local", Transport::name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(rank: usize, transport: TransportChoice) -> Hello {
        let mut config = Config::new(rank, 2);
        config.transport = transport;
        Hello::new(&config, "127.0.0.1:1".parse().unwrap(), Err("no device".to_owned()), false).unwrap()
    }

    fn port(name: &str) -> Vec<Offered> {
        let listens = "192.168.100.1:1".parse().unwrap();
        vec![Offered { name: format!("{name} port 1"), port: format!("{name}:1"), listens, prefix: 24 }]
    }

    #[test]
    fn a_greeting_survives_the_way_and_another_version_does_not() {
        let sent = hello(1, TransportChoice::Auto);
        let mut bytes = sent.encode();
        assert_eq!(Hello::decode(&bytes, "rank 1").unwrap(), sent);
        assert!(matches!(Hello::decode(&bytes[..20], "rank 1"), Err(FabricError::Handshake { .. })));
        bytes[0] = 99;
        assert!(matches!(
            Hello::decode(&bytes, "rank 1"),
            Err(FabricError::ProtocolVersion { theirs: 99, .. })
        ));
    }

    #[test]
    fn both_sides_choose_the_same_and_say_why() {
        let (a, mut b) = (hello(0, TransportChoice::Auto), hello(1, TransportChoice::Auto));
        assert_eq!(choose(&a, &b).unwrap().0, Transport::Shm);
        b.host_identity = "elsewhere".to_owned();
        let (transport, why) = choose(&a, &b).unwrap();
        assert_eq!(transport, Transport::Tcp);
        assert!(why.contains("no device"), "{why}");
        b.rdma = Ok(port("irdma0"));
        assert_eq!(choose(&a, &b).unwrap().0, Transport::Tcp);
        let a = Hello { rdma: Ok(port("irdma0")), ..a };
        assert_eq!(choose(&a, &b).unwrap().0, Transport::Rdma);
        assert_eq!(choose(&b, &a).unwrap().0, Transport::Rdma);
    }

    #[test]
    fn what_carries_a_world_is_the_same_whoever_asks() {
        let auto = |rank| hello(rank, TransportChoice::Auto);
        let elsewhere = |rank| Hello { host_identity: "elsewhere".to_owned(), ..auto(rank) };
        assert_eq!(carrier(&[auto(0)]).unwrap(), "local");
        assert_eq!(carrier(&[auto(0), auto(1), auto(2)]).unwrap(), "shm");
        assert_eq!(carrier(&[auto(0), elsewhere(1)]).unwrap(), "tcp");
        // Rank 2 has links of one kind only, and still knows that the others do not.
        assert_eq!(carrier(&[auto(0), auto(1), elsewhere(2)]).unwrap(), "mixed");
        let named =
            [hello(0, TransportChoice::Shm), Hello { transport: TransportChoice::Shm, ..elsewhere(1) }];
        assert!(carrier(&named).is_err());
    }

    #[test]
    fn a_named_transport_is_had_or_refused_never_replaced() {
        let (a, b) = (hello(0, TransportChoice::Rdma), hello(1, TransportChoice::Rdma));
        let error = choose(&a, &b).unwrap_err().to_string();
        assert!(error.contains("rdma") && error.contains("no device"), "{error}");
        let (a, mut b) = (hello(0, TransportChoice::Shm), hello(1, TransportChoice::Shm));
        b.host_identity = "elsewhere".to_owned();
        assert!(choose(&a, &b).is_err());
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let (a, mut b) = (hello(0, TransportChoice::Auto), hello(1, TransportChoice::Tcp));
        let error = agree(0, &[a.clone(), b.clone()]).unwrap_err().to_string();
        assert!(error.contains("transport") && error.contains("auto") && error.contains("tcp"), "{error}");
        b = Hello { tcp_sockets: 4, ..hello(1, TransportChoice::Auto) };
        assert!(agree(1, &[a.clone(), b]).unwrap_err().to_string().contains("tcp_sockets"));
        b = Hello { slots: 4, ..hello(1, TransportChoice::Auto) };
        assert!(agree(1, &[a.clone(), b]).unwrap_err().to_string().contains("slots"));
        b = Hello { lost_rail: LostRail::Error, ..hello(1, TransportChoice::Auto) };
        let error = agree(0, &[a.clone(), b]).unwrap_err().to_string();
        let parts = ["lost_rail", "has error", "has continue"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        let agreed = vec![("plan table".to_owned(), "measured".to_owned())];
        let b = Hello { agreed, ..hello(1, TransportChoice::Auto) };
        let error = agree(1, &[a.clone(), b]).unwrap_err().to_string();
        assert!(error.contains("plan table") && error.contains("measured"), "{error}");
        let b = Hello { world: 3, ..hello(1, TransportChoice::Auto) };
        let error = agree_on_world(0, &a, 1, &b).unwrap_err().to_string();
        assert!(error.contains("rank 1") && error.contains('3') && error.contains('2'), "{error}");
    }
}
