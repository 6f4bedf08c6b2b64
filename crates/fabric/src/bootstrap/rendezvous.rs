//! Rank 0's [`Store`] over TCP: a server that lives as long as the bootstrap, and the client every rank uses.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::store::{Store, StoreError};
use crate::error::FabricError;
use crate::interrupt::Interrupt;
use crate::key::Key;
use crate::wire::{Connection, Purpose};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Set { key: String, value: Vec<u8> },
    Get { key: String, wait_ms: u64 },
}

/// How long a caller may take to prove the key.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many callers may be about to do so; more wait until they are accepted.
const MOST_UNPROVED: usize = 64;
/// A server that leaves a question unanswered for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How many of the callers that were turned away are remembered.
const MOST_REMEMBERED: usize = 8;
const AFTER_A_FAILURE: Duration = Duration::from_millis(20);

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Taken(Vec<u8>),
    Value(Vec<u8>),
    Absent,
}

#[derive(Debug, Default)]
struct Shared {
    values: Mutex<HashMap<String, Vec<u8>>>,
    written: Condvar,
    stop: AtomicBool,
    clients: AtomicUsize,
    /// Those of them that have not proved the key yet.
    unproved: AtomicUsize,
    /// Strangers that were turned away, for the message about missing ranks.
    refused: Mutex<Vec<String>>,
}

/// Where ranks meet, served by rank 0 during bootstrap.
#[derive(Debug)]
pub struct Rendezvous {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Rendezvous {
    /// Listens at `rendezvous`, `host:port`; port 0 is any free one.
    ///
    /// # Errors
    /// The address does not resolve or cannot be listened at.
    pub fn start(rendezvous: &str, key: &Key, timeout: Duration) -> Result<Self, FabricError> {
        let refuse = |cause: &dyn std::fmt::Display| FabricError::Listen {
            address: rendezvous.to_owned(),
            cause: cause.to_string(),
        };
        let address = resolve(rendezvous).map_err(|cause| refuse(&cause))?;
        let listener = listen(address).map_err(|error| refuse(&error))?;
        let address = listener.local_addr().map_err(|error| refuse(&error))?;
        let shared = Arc::new(Shared::default());
        let accepting = std::thread::Builder::new()
            .name("halo-rendezvous".to_owned())
            .spawn({
                let (shared, key) = (Arc::clone(&shared), key.clone());
                move || accept(&listener, &shared, &key, timeout)
            })
            .map_err(|error| FabricError::system("pthread_create", error))?;
        Ok(Self { shared, address, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who was turned away, as the end of a sentence.
    pub(crate) fn refused(&self) -> String {
        let refused = self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().fold(String::new(), |text, note| text + "; refused " + note)
    }

    /// Waits, for at most `grace`, until every client has read what it came for and hung up.
    pub(crate) fn linger(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut values = self.shared.values.lock().unwrap_or_else(PoisonError::into_inner);
        while self.shared.clients.load(Ordering::Acquire) > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            values = self.shared.written.wait_timeout(values, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.written.notify_all();
        // The accepting thread sleeps in accept(2); a connection to ourselves wakes it.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let woken = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        if let (true, Some(thread)) = (woken, self.accepting.take()) {
            let _ = thread.join();
        }
    }
}

/// Listens with SO_REUSEADDR, so that a restart does not wait for old connections to be forgotten.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// The first address behind `host:port`.
pub(crate) fn resolve(address: &str) -> Result<SocketAddr, String> {
    addresses(address)?.next().ok_or_else(|| "the name has no address".to_owned())
}

fn addresses(address: &str) -> Result<impl Iterator<Item = SocketAddr> + use<>, String> {
    address.to_socket_addrs().map_err(|error| error.to_string())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, key: &Key, timeout: Duration) {
    loop {
        let accepted = listener.accept();
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A caller that hung up, or no more files for now: the next one may be a rank.
                tracing::warn!(%error, "the rendezvous cannot accept a caller");
                std::thread::sleep(AFTER_A_FAILURE);
                continue;
            }
        };
        while shared.unproved.load(Ordering::Acquire) >= MOST_UNPROVED && !shared.stop.load(Ordering::Acquire)
        {
            std::thread::sleep(AFTER_A_FAILURE);
        }
        shared.unproved.fetch_add(1, Ordering::AcqRel);
        let (shared, key) = (Arc::clone(shared), key.clone());
        shared.clients.fetch_add(1, Ordering::AcqRel);
        let serving = Arc::clone(&shared);
        let spawned =
            std::thread::Builder::new().name("halo-rendezvous-client".to_owned()).spawn(move || {
                serve(stream, &serving, &key, timeout);
                client_gone(&serving);
            });
        if spawned.is_err() {
            shared.unproved.fetch_sub(1, Ordering::AcqRel);
            client_gone(&shared);
        }
    }
}

fn client_gone(shared: &Shared) {
    let _values = shared.values.lock().unwrap_or_else(PoisonError::into_inner);
    shared.clients.fetch_sub(1, Ordering::AcqRel);
    shared.written.notify_all();
}

fn serve(stream: TcpStream, shared: &Shared, key: &Key, timeout: Duration) {
    let answered = Connection::answer(stream, 0, key, Instant::now() + timeout.min(PATIENCE));
    shared.unproved.fetch_sub(1, Ordering::AcqRel);
    let caller = match answered {
        Ok(caller) => caller,
        Err(error) => {
            tracing::warn!(%error, "turned a caller away from the rendezvous");
            let mut refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.len() < MOST_REMEMBERED {
                refused.push(error.to_string());
            }
            return;
        }
    };
    let mut connection = caller.connection;
    while !shared.stop.load(Ordering::Acquire) {
        let Ok(request) = connection.receive(Instant::now() + timeout) else { return };
        let answer = answer(shared, request);
        if connection.send(&answer, Instant::now() + timeout).is_err() {
            return;
        }
    }
}

/// What a fuzzer tries: a store that is about to end, so that nobody waits, answers.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn answer_at_the_end(request: Request) -> Answer {
    let shared = Shared { stop: AtomicBool::new(true), ..Shared::default() };
    answer(&shared, request)
}

fn answer(shared: &Shared, request: Request) -> Answer {
    let mut values = shared.values.lock().unwrap_or_else(PoisonError::into_inner);
    match request {
        Request::Set { key, value } => {
            if let Some(present) = values.get(&key) {
                return Answer::Taken(present.clone());
            }
            values.insert(key, value);
            shared.written.notify_all();
            Answer::Done
        }
        Request::Get { key, wait_ms } => {
            let deadline = Instant::now() + Duration::from_millis(wait_ms);
            loop {
                if let Some(value) = values.get(&key) {
                    return Answer::Value(value.clone());
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || shared.stop.load(Ordering::Acquire) {
                    return Answer::Absent;
                }
                values = shared.written.wait_timeout(values, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// A rank's connection to rank 0's store.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Mutex<Connection>,
    timeout: Duration,
}

impl Client {
    /// Connects, trying again until `timeout` has passed: rank 0 may start last.
    pub(crate) fn connect(
        rendezvous: &str,
        rank: usize,
        key: &Key,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Self, FabricError> {
        let deadline = Instant::now() + timeout;
        let unreachable = |cause| {
            let address = rendezvous.to_owned();
            FabricError::RendezvousUnreachable { rank, address, after: timeout, cause }
        };
        let stream = call_until(rendezvous, deadline, interrupt, unreachable)?;
        let peer = format!("the rendezvous {rendezvous}");
        // Not interrupted in the middle of a question: it is also how the others hear of an interrupt.
        let connection = Connection::call(stream, peer, Purpose::Store, rank, key, deadline)?;
        Ok(Self { connection: Mutex::new(connection), timeout })
    }

    /// This machine's address on the way to the rendezvous: the default data address.
    pub(crate) fn local_address(&self) -> Result<SocketAddr, FabricError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.stream.local_addr().map_err(|error| FabricError::system("getsockname", error))
    }

    fn ask(&self, request: &Request, wait: Duration) -> Result<Answer, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // The server answers a wait that has run out, so the connection itself is given a little longer.
        let deadline = Instant::now() + wait + self.timeout.min(SILENCE);
        let failed = |error: FabricError| StoreError::Failed(error.to_string());
        connection.send(request, deadline).map_err(failed)?;
        connection.receive(deadline).map_err(failed)
    }
}

impl Store for Client {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let request = Request::Set { key: key.to_owned(), value: value.to_owned() };
        match self.ask(&request, Duration::ZERO)? {
            Answer::Done => Ok(()),
            Answer::Taken(present) => Err(StoreError::Taken(present)),
            other => Err(StoreError::Failed(format!("the rendezvous answered a set with {other:?}"))),
        }
    }

    fn get(&self, key: &str, deadline: Instant) -> Result<Vec<u8>, StoreError> {
        let wait = deadline.saturating_duration_since(Instant::now());
        let request = Request::Get { key: key.to_owned(), wait_ms: wait.as_millis() as u64 };
        match self.ask(&request, wait)? {
            Answer::Value(value) => Ok(value),
            Answer::Absent => Err(StoreError::Absent),
            other => Err(StoreError::Failed(format!("the rendezvous answered a get with {other:?}"))),
        }
    }
}

/// Connects to `address`, again and again until the deadline, and makes an error of the last refusal if it never works.
pub(crate) fn call_until(
    address: &str,
    deadline: Instant,
    interrupt: &Interrupt,
    failed: impl FnOnce(String) -> FabricError,
) -> Result<TcpStream, FabricError> {
    // Short enough that a rank 0 which starts late is met at once, long enough to cost nothing.
    const BETWEEN_TRIES: Duration = Duration::from_millis(50);
    // The kernel doubles its patience with every request that is not answered, up to minutes: a cable that is put in
    // while we wait would be noticed as late as that.
    const ONE_TRY: Duration = Duration::from_secs(1);
    loop {
        interrupt.check()?;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut refusal = "the name has no address".to_owned();
        // A name may have an address that does not lead to the listener beside one that does.
        let addresses = match addresses(address) {
            Ok(addresses) => addresses,
            Err(cause) => return Err(failed(cause)),
        };
        for address in addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                "the deadline had passed".clone_into(&mut refusal);
                break;
            }
            match TcpStream::connect_timeout(&address, left.min(ONE_TRY)) {
                Ok(stream) => return Ok(stream),
                Err(error) => refusal = error.to_string(),
            }
        }
        if left <= BETWEEN_TRIES {
            return Err(failed(refusal));
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Rendezvous, Client) {
        let key = Key::new("k");
        let server = Rendezvous::start("127.0.0.1:0", &key, Duration::from_secs(5)).unwrap();
        let client = Client::connect(
            &server.address.to_string(),
            1,
            &key,
            Duration::from_secs(5),
            &Interrupt::default(),
        )
        .unwrap();
        (server, client)
    }

    #[test]
    fn a_value_is_written_once_and_read_by_all() {
        let (_server, client) = pair();
        client.set("a", b"1").unwrap();
        assert_eq!(client.set("a", b"2"), Err(StoreError::Taken(b"1".to_vec())));
        assert_eq!(client.get("a", Instant::now()), Ok(b"1".to_vec()));
    }

    #[test]
    fn a_get_wakes_when_the_key_is_written_and_gives_up_at_its_deadline() {
        let (server, client) = pair();
        assert_eq!(client.get("late", Instant::now() + Duration::from_millis(20)), Err(StoreError::Absent));
        let other = Client::connect(
            &server.address.to_string(),
            2,
            &Key::new("k"),
            Duration::from_secs(5),
            &Interrupt::default(),
        )
        .unwrap();
        let waiting = std::thread::spawn(move || other.get("late", Instant::now() + Duration::from_secs(5)));
        client.set("late", b"now").unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(b"now".to_vec()));
    }

    #[test]
    fn a_taken_port_and_an_absent_server_are_named() {
        let (server, _client) = pair();
        let address = server.address.to_string();
        let taken = Rendezvous::start(&address, &Key::new("k"), Duration::from_secs(1)).unwrap_err();
        assert!(
            matches!(&taken, FabricError::Listen { .. }) && taken.to_string().contains(&address),
            "{taken}"
        );
        let closed = crate::reserve_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap().to_string();
        let absent =
            Client::connect(&closed, 1, &Key::new("k"), Duration::from_millis(120), &Interrupt::default())
                .unwrap_err();
        assert!(matches!(&absent, FabricError::RendezvousUnreachable { rank: 1, .. }), "{absent}");
    }

    #[test]
    fn a_stranger_is_turned_away_and_remembered() {
        let (server, _client) = pair();
        let stranger = Client::connect(
            &server.address.to_string(),
            1,
            &Key::new("other"),
            Duration::from_secs(5),
            &Interrupt::default(),
        );
        assert!(matches!(stranger, Err(FabricError::WrongKey { .. })));
        drop(stranger);
        // The server hears of it when the stranger hangs up.
        let deadline = Instant::now() + Duration::from_secs(5);
        while server.refused().is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(server.refused().contains("same key"), "{}", server.refused());
    }
}
