//! Where a rank takes its peers' connections during bootstrap, in whatever order they come.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::rendezvous::listen;
use crate::error::FabricError;
use crate::key::Key;
use crate::poll::ready_before;
use crate::wire::{Connection, Purpose, would_wait};

/// A caller that says nothing holds up the others for at most this long.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Reception {
    listener: TcpListener,
    rank: usize,
    key: Key,
    /// In the order in which a rank has called.
    early: HashMap<(u32, usize), VecDeque<Connection>>,
}

/// Where they come: at the data address, and in the networks of further rails.
#[derive(Debug)]
pub(super) struct Receptions {
    pub(super) first: Reception,
    pub(super) further: Vec<Reception>,
}

impl Reception {
    pub(super) fn open(address: IpAddr, rank: usize, key: Key) -> Result<Self, FabricError> {
        let cannot =
            |error| FabricError::DataAddress { cause: format!("cannot listen at {address}: {error}") };
        let listener = listen(SocketAddr::new(address, 0)).map_err(cannot)?;
        // Who called may be gone again before it is accepted, and the next one may never come.
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(Self { listener, rank, key, early: HashMap::new() })
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
                return Ok(connection);
            }
            self.wait(peer, deadline)?;
            let Some((stream, from)) = self.accept()? else { continue };
            match Connection::answer(stream, self.rank, &self.key, deadline.min(Instant::now() + PATIENCE)) {
                Ok(caller) => {
                    let key = (caller.purpose as u32, caller.rank);
                    self.early.entry(key).or_default().push_back(caller.connection);
                }
                Err(error) => tracing::warn!(%from, %error, "turned a caller away"),
            }
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

    fn wait(&self, peer: &str, deadline: Instant) -> Result<(), FabricError> {
        if ready_before(deadline, &mut [PollFd::new(&self.listener, PollFlags::IN)])? {
            return Ok(());
        }
        let here = self.listener.local_addr();
        let here = here.map_or_else(|error| error.to_string(), |address| address.to_string());
        Err(FabricError::Handshake {
            peer: peer.to_owned(),
            cause: format!("it did not connect to {here} before the deadline; a firewall may drop it"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_is_gone_before_it_is_accepted_keeps_nobody_waiting() {
        let reception = Reception::open("127.0.0.1".parse().unwrap(), 0, Key::new("k")).unwrap();
        assert!(reception.accept().unwrap().is_none());
        let _caller = TcpStream::connect(reception.address().unwrap()).unwrap();
        reception.wait("rank 1", Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(reception.accept().unwrap().is_some());
    }
}
