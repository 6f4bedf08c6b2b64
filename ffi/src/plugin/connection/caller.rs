//! The connecting side: a state machine that every call of `connect` pushes on.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Instant;

use halo_fabric::{Key, nonce};

use super::hello::{Answer, Hello, Identity, Introduction, Ready, Terms, stranger};
use super::proof::{Proof, Refusal};
use super::stream::{Open, Stream};
use crate::plugin::abi::HANDLE_BYTES;
use crate::plugin::comm::control::Control;
use crate::plugin::comm::{Comm, SendPath};
use crate::plugin::device::{Device, Kind};
use crate::plugin::error::PluginError;
use crate::plugin::handle::{self, Handle};
use crate::plugin::{log, process, rdma, tcp};

/// Begins to connect, or goes on: `None` until the connection stands.
pub(crate) fn connect(
    device: &'static Device,
    bytes: &mut [u8; HANDLE_BYTES],
    traffic_class: Option<u8>,
) -> Result<Option<Box<Comm>>, PluginError> {
    let number = handle::attempt(bytes);
    let (number, mut caller) = if number == 0 {
        let caller = Caller::begin(device, &Handle::decode(bytes)?, traffic_class)?;
        let random = nonce().map_err(|error| PluginError::system("getrandom", error))?;
        let number = u64::from_ne_bytes(*random.first_chunk().expect("eight of 32 bytes")).max(1);
        handle::set_attempt(bytes, number);
        (number, caller)
    } else {
        let caller = with_attempts(|attempts| attempts.remove(&number));
        let lost = || PluginError::Handle { cause: "its attempt is not known".to_owned() };
        (number, caller.ok_or_else(lost)?)
    };
    let advanced = caller.advance();
    if let Ok(false) = advanced {
        with_attempts(|attempts| {
            // Attempts that the core has given up are not asked for again.
            attempts.retain(|_, other| other.began.elapsed() < 2 * other.device.settings.timeout);
            attempts.insert(number, caller)
        });
        return Ok(None);
    }
    handle::set_attempt(bytes, 0);
    advanced.and_then(|_| caller.finish()).map(Some)
}

fn with_attempts<T>(work: impl FnOnce(&mut HashMap<u64, Caller>) -> T) -> T {
    let attempts = &process::current().attempts;
    work(&mut attempts.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One socket on its way.
#[derive(Debug)]
struct Socket {
    stream: Stream,
    proof: Option<Proof>,
    introduced: bool,
}

enum Trouble {
    Unreachable(io::Error),
    Refused(Refusal),
    Here(PluginError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl Socket {
    /// Connects, proves the key, says hello; true when all of that has left.
    fn introduce(&mut self, key: &Key, hello: impl FnOnce() -> Hello) -> Result<bool, Trouble> {
        if !self.stream.connected()? {
            return Ok(false);
        }
        if !self.introduced {
            let open = self.stream.fill()?;
            let Stream { input, output, .. } = &mut self.stream;
            if self.proof.is_none() {
                self.proof = Some(Proof::caller(key.clone(), output).map_err(Trouble::Here)?);
            }
            let proof = self.proof.as_mut().expect("made above");
            if proof.advance(input, output).map_err(Trouble::Refused)? {
                self.stream.put_frame(&hello());
                self.introduced = true;
            } else if open == Open::Ended {
                return Err(closed().into());
            }
        }
        self.stream.flush()?;
        Ok(self.introduced && self.stream.output.is_empty())
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "it closed the connection")
}

/// A connection that is being set up.
#[derive(Debug)]
pub(crate) struct Caller {
    device: &'static Device,
    began: Instant,
    handle: Handle,
    peer: String,
    terms: Terms,
    connection: [u8; 16],
    control: Socket,
    data: Vec<Socket>,
    rdma: Option<rdma::Pending>,
    /// The path, once the peer has welcomed this side; then only bytes must leave.
    path: Option<Welcomed>,
}

#[derive(Debug)]
struct Welcomed {
    peer: String,
    eager_bytes: usize,
    rdma: Option<rdma::Connected>,
}

impl Caller {
    fn begin(
        device: &'static Device,
        handle: &Handle,
        traffic_class: Option<u8>,
    ) -> Result<Self, PluginError> {
        let terms = Terms::of(device, traffic_class);
        let from = device.address_towards(handle.address.ip())?;
        let to = towards(handle.address, from);
        let peer = stranger(&handle.host, to);
        let call = || {
            Stream::call(from, to).map(|stream| Socket { stream, proof: None, introduced: false }).map_err(
                |error| PluginError::Connect {
                    peer: peer.clone(),
                    device: device.describe(),
                    cause: error.to_string(),
                },
            )
        };
        let (sockets, rdma) = match &device.kind {
            Kind::Tcp(_) => (usize::from(terms.lanes), None),
            Kind::Rdma(ports) => (0, Some(rdma::Pending::calling(device, ports, &terms)?)),
        };
        let random = nonce().map_err(|error| PluginError::system("getrandom", error))?;
        Ok(Self {
            device,
            began: Instant::now(),
            handle: handle.clone(),
            terms,
            connection: *random.first_chunk().expect("sixteen of 32 bytes"),
            control: call()?,
            data: (0..sockets).map(|_| call()).collect::<Result<_, _>>()?,
            peer,
            rdma,
            path: None,
        })
    }

    /// Goes as far as it can; true when the connection stands.
    fn advance(&mut self) -> Result<bool, PluginError> {
        let introduced = self.introduce_all()?;
        if introduced && self.path.is_none() {
            self.hear_the_answer()?;
        }
        if self.path.is_some() {
            self.control.stream.flush().map_err(|error| self.unreachable(&error))?;
            return Ok(self.control.stream.output.is_empty());
        }
        let after = self.began.elapsed();
        if after > self.device.settings.timeout {
            let stage = if introduced { "it did not accept" } else { "the connection was not answered" };
            let (peer, device) = (self.peer.clone(), self.device.describe());
            return Err(PluginError::Deadline { peer, device, after, stage });
        }
        Ok(false)
    }

    /// Goes on with every socket; true when all have introduced themselves.
    fn introduce_all(&mut self) -> Result<bool, PluginError> {
        let key = self.handle.key(self.device.settings.key.as_ref());
        let connection = self.connection;
        let introduction = || {
            let rdma = self.rdma.as_ref().map(rdma::Pending::offer);
            Hello::Control(Introduction {
                connection,
                who: Identity::of(self.device),
                terms: self.terms,
                rdma,
            })
        };
        let mut done = self.control.introduce(&key, introduction);
        for (lane, socket) in self.data.iter_mut().enumerate() {
            let hello = || Hello::Data { connection, lane: lane as u8 };
            done = done.and_then(|done| Ok(socket.introduce(&key, hello)? && done));
        }
        done.map_err(|trouble| match trouble {
            Trouble::Unreachable(error) => self.unreachable(&error),
            Trouble::Refused(refusal) => refusal.into_error(self.peer.clone(), self.device.describe()),
            Trouble::Here(error) => error,
        })
    }

    fn hear_the_answer(&mut self) -> Result<(), PluginError> {
        let broken = |caller: &Self, cause: String| PluginError::Protocol {
            peer: caller.peer.clone(),
            device: caller.device.describe(),
            cause,
        };
        let open = self.control.stream.fill().map_err(|error| self.unreachable(&error))?;
        let answer = self.control.stream.take_frame::<Answer>().map_err(|cause| broken(self, cause))?;
        match answer {
            None if open == Open::Ended => Err(self.unreachable(&closed())),
            None => Ok(()),
            Some(Answer::Refused { cause }) => {
                let (device, peer) = (self.device.describe(), self.peer.clone());
                Err(PluginError::Mismatch { device, peer, cause })
            }
            Some(Answer::Welcome { who, eager_bytes, rdma }) => {
                self.peer = who.describe(&self.handle.address.ip().to_string());
                if eager_bytes > self.terms.eager_bytes {
                    return Err(broken(self, format!("it welcomes with {eager_bytes} eager bytes")));
                }
                let connected = match (self.rdma.take(), rdma) {
                    (None, None) => None,
                    (Some(pending), Some(theirs)) => Some(pending.connect(&theirs, &self.peer)?),
                    _ => return Err(broken(self, "it welcomes with another transport".to_owned())),
                };
                let peer = self.peer.clone();
                self.path = Some(Welcomed { peer, eager_bytes: eager_bytes as usize, rdma: connected });
                self.control.stream.put_frame(&Ready);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Box<Comm>, PluginError> {
        let Self { device, terms, control, data, path, .. } = self;
        let Welcomed { peer, eager_bytes, rdma } = path.expect("finished only when it stands");
        let keep_alive = control.stream.keep_alive(device.settings.peer_timeout);
        keep_alive.map_err(|error| PluginError::system("setsockopt(SO_KEEPALIVE)", error))?;
        let control = Control::new(control.stream);
        let mut striping = terms.striping();
        let mut over = format!("{} lane(s)", terms.lanes);
        let path = if let Some(connected) = rdma {
            // The peer need not reach every port.
            striping.lanes = connected.lanes();
            over = connected.describe();
            SendPath::Rdma(Box::new(rdma::Sender::new(control, connected, eager_bytes, striping)))
        } else {
            let lanes = data.into_iter().map(|socket| socket.stream.into_socket()).collect();
            SendPath::Tcp(Box::new(tcp::Sender::new(control, lanes, eager_bytes, striping)))
        };
        log::info(&format!("{} sends to {peer} over {over}", device.describe()));
        Ok(Comm::sender(device, peer, path))
    }

    fn unreachable(&self, error: &io::Error) -> PluginError {
        let (peer, device) = (self.peer.clone(), self.device.describe());
        PluginError::Connect { peer, device, cause: error.to_string() }
    }
}

/// The listener's address as seen from here: a link-local one is reached through this side's own interface.
fn towards(address: SocketAddr, from: SocketAddr) -> SocketAddr {
    match (address, from) {
        (SocketAddr::V6(mut address), SocketAddr::V6(from)) => {
            address.set_scope_id(if address.ip().is_unicast_link_local() { from.scope_id() } else { 0 });
            address.into()
        }
        (address, _) => address,
    }
}
