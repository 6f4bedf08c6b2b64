//! Where a rank takes its peers' connections during bootstrap, in whatever order they come.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::rendezvous::listen;
use crate::config::Config;
use crate::error::FabricError;
use crate::interrupt::Interrupt;
use crate::key::Key;
use crate::poll::ready_before;
use crate::wire::{BETWEEN_QUESTIONS, Caller, Connection, Purpose, would_wait};

/// How long a caller may take to prove the key.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many callers may be about to do so, each in a thread of its own; more wait until they are accepted.
const MOST_UNPROVED: usize = 64;
/// While some of them are, how often a new one is looked for.
const LOOK_FOR_CALLERS: Duration = Duration::from_millis(5);

type Answer = (SocketAddr, Result<Caller, FabricError>);

#[derive(Debug)]
pub(super) struct Reception {
    listener: TcpListener,
    rank: usize,
    key: Key,
    interrupt: Interrupt,
    /// In the order in which a rank has called.
    early: HashMap<(u32, usize), VecDeque<Connection>>,
    /// Callers that are about to prove the key, and how each of them comes out.
    unproved: usize,
    answers: (Sender<Answer>, Receiver<Answer>),
}

/// Where they come: at the data address, and in the networks of further rails.
#[derive(Debug)]
pub(super) struct Receptions {
    pub(super) first: Reception,
    pub(super) further: Vec<Reception>,
}

impl Reception {
    pub(super) fn open(address: IpAddr, config: &Config, key: Key) -> Result<Self, FabricError> {
        let cannot =
            |error| FabricError::DataAddress { cause: format!("cannot listen at {address}: {error}") };
        let listener = listen(SocketAddr::new(address, 0)).map_err(cannot)?;
        // Who called may be gone again before it is accepted, and the next one may never come.
        listener.set_nonblocking(true).map_err(cannot)?;
        let (rank, interrupt) = (config.rank, config.interrupt.clone());
        let (early, answers) = (HashMap::new(), mpsc::channel());
        Ok(Self { listener, rank, key, interrupt, early, unproved: 0, answers })
    }

    pub(super) fn address(&self) -> Result<SocketAddr, FabricError> {
        self.listener.local_addr().map_err(|error| FabricError::system("getsockname", error))
    }

    /// The connection of `rank` for `purpose`; others that come first are kept, strangers are turned away.
    pub(super) fn take(
        &mut self,
        purpose: Purpose,
        rank: usize,
        peer: &str,
        deadline: Instant,
    ) -> Result<Connection, FabricError> {
        loop {
            let waiting = self.early.get_mut(&(purpose as u32, rank));
            if let Some(mut connection) = waiting.and_then(VecDeque::pop_front) {
                peer.clone_into(&mut connection.peer);
                connection.interrupt = self.interrupt.clone();
                return Ok(connection);
            }
            self.interrupt.check()?;
            if self.unproved == 0 {
                self.wait(peer, deadline)?;
            }
            while self.unproved < MOST_UNPROVED
                && let Some((stream, from)) = self.accept()?
            {
                self.answer(stream, from, deadline)?;
            }
            self.hear(peer, deadline)?;
        }
    }

    /// In a thread of its own: one that says nothing keeps nobody else waiting.
    fn answer(&mut self, stream: TcpStream, from: SocketAddr, deadline: Instant) -> Result<(), FabricError> {
        let (rank, key, told) = (self.rank, self.key.clone(), self.answers.0.clone());
        let deadline = deadline.min(Instant::now() + PATIENCE);
        let answering = move || {
            // Nobody listens any more when all ranks have met.
            let _ = told.send((from, Connection::answer(stream, rank, &key, deadline)));
        };
        let thread = std::thread::Builder::new().name("halo-reception".to_owned());
        thread.spawn(answering).map_err(|error| FabricError::system("pthread_create", error))?;
        self.unproved += 1;
        Ok(())
    }

    /// Takes in how the next caller comes out, if that is soon.
    fn hear(&mut self, peer: &str, deadline: Instant) -> Result<(), FabricError> {
        match self.answers.1.recv_timeout(LOOK_FOR_CALLERS) {
            Ok((from, answer)) => {
                self.unproved -= 1;
                match answer {
                    Ok(Caller { connection, rank, purpose }) => {
                        self.early.entry((purpose as u32, rank)).or_default().push_back(connection);
                    }
                    Err(error) => tracing::warn!(%from, %error, "turned a caller away"),
                }
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => Ok(()),
            Err(_) => Err(self.nobody_came(peer)),
        }
    }

    /// The next caller; none if there is none now.
    fn accept(&self) -> Result<Option<(TcpStream, SocketAddr)>, FabricError> {
        match self.listener.accept() {
            Ok(caller) => Ok(Some(caller)),
            Err(error) if would_wait(&error) || error.kind() == ErrorKind::ConnectionAborted => Ok(None),
            Err(error) => Err(FabricError::system("accept", error)),
        }
    }

    /// Until somebody calls or a while has passed.
    fn wait(&self, peer: &str, deadline: Instant) -> Result<(), FabricError> {
        let soon = deadline.min(Instant::now() + BETWEEN_QUESTIONS);
        let called = ready_before(soon, &mut [PollFd::new(&self.listener, PollFlags::IN)])?;
        if called || soon < deadline { Ok(()) } else { Err(self.nobody_came(peer)) }
    }

    fn nobody_came(&self, peer: &str) -> FabricError {
        let here = self.listener.local_addr();
        let here = here.map_or_else(|error| error.to_string(), |address| address.to_string());
        FabricError::Handshake {
            peer: peer.to_owned(),
            cause: format!("it did not connect to {here} before the deadline; a firewall may drop it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_is_gone_before_it_is_accepted_keeps_nobody_waiting() {
        let reception =
            Reception::open("127.0.0.1".parse().unwrap(), &Config::new(0, 2), Key::new("k")).unwrap();
        assert!(reception.accept().unwrap().is_none());
        let _caller = TcpStream::connect(reception.address().unwrap()).unwrap();
        reception.wait("rank 1", Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(reception.accept().unwrap().is_some());
    }

    #[test]
    fn callers_that_say_nothing_keep_a_rank_waiting_no_longer() {
        let key = Key::new("k");
        let mut reception =
            Reception::open("127.0.0.1".parse().unwrap(), &Config::new(0, 2), key.clone()).unwrap();
        let address = reception.address().unwrap();
        // One after the other they would take a minute.
        let _silent: Vec<_> = (0..12).map(|_| TcpStream::connect(address).unwrap()).collect();
        let start = Instant::now();
        let deadline = start + Duration::from_secs(50);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let stream = TcpStream::connect(address).unwrap();
                Connection::call(stream, "rank 0".to_owned(), Purpose::Data, 1, &key, deadline).unwrap();
            });
            reception.take(Purpose::Data, 1, "rank 1", deadline).unwrap();
        });
        assert_eq!(reception.unproved, 12, "none of them was waited for");
    }
}
