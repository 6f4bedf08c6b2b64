//! Where a rank takes its peers' connections during bootstrap, in whatever order they come.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rendezvous::listen;
use crate::error::FabricError;
use crate::key::Key;
use crate::wire::{Connection, Purpose};

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
        let listener = listen(SocketAddr::new(address, 0)).map_err(|error| FabricError::DataAddress {
            cause: format!("cannot listen at {address}: {error}"),
        })?;
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
            let (stream, from) =
                self.listener.accept().map_err(|error| FabricError::system("accept", error))?;
            match Connection::answer(stream, self.rank, &self.key, deadline.min(Instant::now() + PATIENCE)) {
                Ok(caller) => {
                    let key = (caller.purpose as u32, caller.rank);
                    self.early.entry(key).or_default().push_back(caller.connection);
                }
                Err(error) => tracing::warn!(%from, %error, "turned a caller away"),
            }
        }
    }

    fn wait(&self, peer: &str, deadline: Instant) -> Result<(), FabricError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a deadline fits a timespec");
        let mut watched = [PollFd::new(&self.listener, PollFlags::IN)];
        match poll(&mut watched, Some(&left)) {
            Ok(0) => Err(FabricError::Handshake {
                peer: peer.to_owned(),
                cause: format!(
                    "it did not connect to {} before the deadline; a firewall may drop it",
                    self.listener
                        .local_addr()
                        .map_or_else(|error| error.to_string(), |address| address.to_string())
                ),
            }),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(FabricError::system("poll", error)),
        }
    }
}
