//! How ranks meet: each leaves a [`Hello`] in the store, reads everybody's, checks that all agree, and then opens a
//! control connection and a link to every peer. All ranks see the same greetings and decide the same from them, so
//! nobody needs to be asked.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hello;
mod links;
mod rails;
mod reception;
mod rendezvous;
mod reserve;
mod segments;
mod store;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::FabricError;
use crate::host;
use crate::key::Key;
use crate::mesh::Mesh;
use crate::rdma::RdmaPorts;

use hello::Hello;
use reception::{Reception, Receptions};
use rendezvous::Client;
pub use rendezvous::Rendezvous;
pub use reserve::reserve_port;
pub use store::{Store, StoreError};

/// How long a failing rank 0 stays to tell the others why.
const LINGER: Duration = Duration::from_secs(2);
/// How often a rank that waits for something in the store looks whether somebody has given up.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// The key under which a rank that gives up leaves its reason.
const ABORT: &str = "abort";

/// Bootstrap where rank 0 serves the store.
pub(crate) fn over_rendezvous(config: &Config) -> Result<Mesh, FabricError> {
    config.validate()?;
    let key = rendezvous_key(config)?;
    let rendezvous = match config.rank {
        0 if config.world > 1 => Some(Rendezvous::start(&config.rendezvous, &key, config.timeout)?),
        _ => None,
    };
    over_served(config, &key, rendezvous)
}

/// Bootstrap where rank 0 brings a rendezvous that is open already, at the address that is everybody's
/// `config.rendezvous`.
pub(crate) fn over_served(
    config: &Config,
    key: &Key,
    server: Option<Rendezvous>,
) -> Result<Mesh, FabricError> {
    config.validate()?;
    if config.world == 1 {
        return links::alone(config);
    }
    let client = Client::connect(&config.rendezvous, config.rank, key, config.timeout, &config.interrupt)?;
    let towards = client.local_address()?.ip();
    let met = meet(config, &client, key, towards);
    drop(client);
    let Some(server) = server else { return met };
    match met {
        Ok(mesh) => Ok(mesh),
        Err(error) => {
            server.linger(LINGER);
            Err(with_notes(error, &server.refused()))
        }
    }
}

/// Bootstrap through a store the caller serves. Without a configured key, rank 0 makes one and leaves it there:
/// whoever can read the store is trusted.
pub(crate) fn over_store(config: &Config, store: &dyn Store) -> Result<Mesh, FabricError> {
    config.validate()?;
    if config.world == 1 {
        return links::alone(config);
    }
    let key = match (&config.key, config.rank) {
        (Some(key), _) => key.clone(),
        (None, 0) => {
            let key = Key::generate()?;
            store.set("key", key.expose()).map_err(|error| store_failed(config, "key", &error))?;
            key
        }
        (None, _) => left_key(config, store)?,
    };
    meet(config, store, &key, host::outward_address())
}

/// The key that rank 0 leaves in the store.
fn left_key(config: &Config, store: &dyn Store) -> Result<Key, FabricError> {
    let deadline = Instant::now() + config.timeout;
    loop {
        config.interrupt.check()?;
        let soon = deadline.min(Instant::now() + BETWEEN_LOOKS);
        match store.get("key", soon) {
            Ok(key) => return Ok(Key::new(key)),
            Err(StoreError::Absent) if soon < deadline => {}
            Err(error) => return Err(store_failed(config, "key", &error)),
        }
    }
}

/// What is said of a store that does not do what it should.
fn store_failed(config: &Config, key: &str, error: &StoreError) -> FabricError {
    if config.interrupt.wanted() {
        return FabricError::Interrupted;
    }
    FabricError::Store { key: key.to_owned(), cause: error.to_string() }
}

/// The configured key; none is needed where only this machine can come, to the rendezvous and to the ranks themselves.
fn rendezvous_key(config: &Config) -> Result<Key, FabricError> {
    if let Some(key) = &config.key {
        return Ok(key.clone());
    }
    if config.world > 1 {
        let address = config.rendezvous.clone();
        match rendezvous::resolve(&address) {
            Ok(found) if found.ip().is_loopback() => {}
            Ok(_) => return Err(FabricError::KeyNeeded { place: format!("the rendezvous {address}") }),
            Err(cause) => {
                let (rank, after) = (config.rank, Duration::ZERO);
                return Err(FabricError::RendezvousUnreachable { rank, address, after, cause });
            }
        }
    }
    // An address that cannot be had is told later, when the other ranks can hear of it.
    match host::data_address(config, Ipv4Addr::LOCALHOST.into()) {
        Ok(own) if !own.is_loopback() && config.world > 1 => {
            Err(FabricError::KeyNeeded { place: format!("rank {}'s address {own}", config.rank) })
        }
        _ => Ok(Key::new(Vec::new())),
    }
}

/// Everything after the store is reached. A rank that fails tells the others through the store.
fn meet(config: &Config, store: &dyn Store, key: &Key, default_address: IpAddr) -> Result<Mesh, FabricError> {
    let met = greet_and_link(config, store, key, default_address);
    if let Err(error) = &met {
        let reason = format!("{}\n{}\n{}", config.rank, host::name(), error.one_line());
        let _ = store.set(ABORT, reason.as_bytes());
    }
    met
}

fn greet_and_link(
    config: &Config,
    store: &dyn Store,
    key: &Key,
    default_address: IpAddr,
) -> Result<Mesh, FabricError> {
    let deadline = Instant::now() + config.timeout;
    let address = host::data_address(config, default_address)?;
    let reception = Reception::open(address, config, key.clone())?;
    let mut ports = RdmaPorts::open(config, address);
    let (offered, listed, further) = match &mut ports {
        Ok(ports) => {
            let (offered, further) = rails::listen(ports, reception.address()?, config, key)?;
            (Ok(offered), ports.listed, further)
        }
        Err(cause) => (Err(cause.clone()), false, Vec::new()),
    };
    let hello = Hello::new(config, reception.address()?, offered, listed)?;
    publish(config, store, &hello)?;
    let hellos = gather(config, store, &hello, deadline)?;
    hello::agree(config.rank, &hellos)?;
    let receptions = Receptions { first: reception, further };
    links::connect(config, address, &hellos, receptions, ports, key, deadline)
}

fn publish(config: &Config, store: &dyn Store, hello: &Hello) -> Result<(), FabricError> {
    let key = format!("hello/{}", config.rank);
    match store.set(&key, &hello.encode()) {
        Ok(()) => Ok(()),
        Err(StoreError::Taken(present)) => {
            Err(taken_twice(config.rank, &Hello::decode(&present, &key)?, hello))
        }
        Err(error) => Err(store_failed(config, &key, &error)),
    }
}

fn taken_twice(rank: usize, first: &Hello, second: &Hello) -> FabricError {
    FabricError::RankTakenTwice { rank, first: first.process(), second: second.process() }
}

/// Everybody's greeting, in rank order.
fn gather(
    config: &Config,
    store: &dyn Store,
    own: &Hello,
    deadline: Instant,
) -> Result<Vec<Hello>, FabricError> {
    let mut hellos = Vec::with_capacity(config.world);
    for rank in 0..config.world {
        let hello = wait_for(config, store, rank, deadline)?;
        // A store that keeps the last value instead of the first shows a second claimant here.
        if rank == config.rank && hello.nonce != own.nonce {
            return Err(taken_twice(rank, &hello, own));
        }
        hello::agree_on_world(config.rank, own, rank, &hello)?;
        hellos.push(hello);
    }
    Ok(hellos)
}

fn wait_for(
    config: &Config,
    store: &dyn Store,
    rank: usize,
    deadline: Instant,
) -> Result<Hello, FabricError> {
    let key = format!("hello/{rank}");
    loop {
        config.interrupt.check()?;
        let now = Instant::now();
        match store.get(&key, deadline.min(now + BETWEEN_LOOKS)) {
            Ok(bytes) => return Hello::decode(&bytes, &format!("rank {rank}")),
            Err(StoreError::Absent) => {}
            Err(error) => return Err(store_failed(config, &key, &error)),
        }
        if let Ok(reason) = store.get(ABORT, now) {
            return Err(stopped(&reason));
        }
        if Instant::now() >= deadline {
            return Err(missing(config, store, rank));
        }
    }
}

fn stopped(reason: &[u8]) -> FabricError {
    let text = String::from_utf8_lossy(reason);
    let mut parts = text.splitn(3, '\n');
    let peer = parts.next().and_then(|rank| rank.parse().ok()).unwrap_or_default();
    let host = parts.next().unwrap_or("an unknown host").to_owned();
    FabricError::StoppedByPeer { peer, host, reason: parts.next().unwrap_or_default().to_owned() }
}

/// Names every rank that did not come, not only the first.
fn missing(config: &Config, store: &dyn Store, first: usize) -> FabricError {
    let absent = |rank: &usize| store.get(&format!("hello/{rank}"), Instant::now()).is_err();
    let missing = (first..config.world).filter(absent).map(|rank| rank.to_string()).collect::<Vec<_>>();
    FabricError::RanksMissing {
        rank: config.rank,
        missing: missing.join(", "),
        world: config.world,
        after: config.timeout,
        notes: String::new(),
    }
}

/// Adds who was turned away to the message about who did not come.
fn with_notes(error: FabricError, refused: &str) -> FabricError {
    match error {
        FabricError::RanksMissing { rank, missing, world, after, .. } => {
            FabricError::RanksMissing { rank, missing, world, after, notes: refused.to_owned() }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_needed_wherever_another_machine_can_come() {
        let config = |rendezvous: &str, address| {
            let rendezvous = rendezvous.to_owned();
            Config { rendezvous, address, key: None, ..Config::new(0, 2) }
        };
        rendezvous_key(&config("127.0.0.1:9", None)).unwrap();
        rendezvous_key(&config("127.0.0.1:9", Some(Ipv4Addr::LOCALHOST.into()))).unwrap();
        let refused = rendezvous_key(&config("192.0.2.1:9", None));
        assert!(matches!(refused, Err(FabricError::KeyNeeded { .. })), "{refused:?}");
        // What cannot be found is not said to be reachable.
        let nowhere = rendezvous_key(&config("no port", None));
        assert!(matches!(nowhere, Err(FabricError::RendezvousUnreachable { .. })), "{nowhere:?}");
        // The address of any interface that this machine has beside loopback.
        let own = host::outward_address();
        let answer = rendezvous_key(&config("127.0.0.1:9", Some(own)));
        assert_eq!(answer.is_ok(), own.is_loopback(), "{own}: {answer:?}");
    }
}
