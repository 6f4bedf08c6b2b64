//! The listening side: every call of `accept` pushes on all callers that knock, and hands out the first that stands.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use halo_fabric::{PROOF_BYTES, nonce};

use super::hello::{Answer, Hello, Identity, Introduction, Ready, host_name};
use super::proof::Proof;
use super::stream::{Open, Stream, listen, not_now};
use crate::plugin::comm::control::Control;
use crate::plugin::comm::{Comm, ReceivePath};
use crate::plugin::device::{Device, Kind};
use crate::plugin::error::PluginError;
use crate::plugin::handle::{Handle, connection_key};
use crate::plugin::process::Lent;
use crate::plugin::{log, rdma, tcp};

/// Callers that have not proved the key yet, at one time: more is an attack, not a cluster.
const MAX_KNOCKING: usize = 4096;

/// A listening socket and the callers at it.
#[derive(Debug)]
pub(crate) struct Listener {
    process: u32,
    device: &'static Device,
    socket: TcpListener,
    secret: [u8; PROOF_BYTES],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    knocking: Vec<Knocking>,
    /// Data sockets whose control socket has not introduced itself yet, and the others.
    data: Vec<([u8; 16], u8, TcpStream, Instant)>,
    joining: Vec<Joining>,
    /// Since when `accept` has come back with nothing.
    waiting: Option<Instant>,
}

/// A socket that has not said what it is for.
#[derive(Debug)]
struct Knocking {
    stream: Stream,
    proof: Proof,
    since: Instant,
}

/// A connection of which the control socket is here.
#[derive(Debug)]
struct Joining {
    introduction: Introduction,
    peer: String,
    stream: Stream,
    lanes: Vec<Option<TcpStream>>,
    rdma: Option<rdma::Connected>,
    eager_bytes: usize,
    welcomed: bool,
    since: Instant,
}

impl Lent for Listener {
    fn process(&self) -> u32 {
        self.process
    }
}

impl Listener {
    /// Listens at the device's address; the handle tells a peer how to connect.
    pub(crate) fn new(device: &'static Device) -> Result<(Self, Handle), PluginError> {
        let at = device.address()?;
        let refuse = |error: std::io::Error| {
            let (device, address) = (device.describe(), at.ip().to_string());
            PluginError::Listen { device, address, cause: error.to_string() }
        };
        let socket = listen(at).map_err(refuse)?;
        let address: SocketAddr = socket.local_addr().map_err(refuse)?;
        let secret = nonce().map_err(|error| PluginError::system("getrandom", error))?;
        let handle = Handle { address, secret, host: host_name() };
        let process = std::process::id();
        Ok((Self { process, device, socket, secret, state: Mutex::default() }, handle))
    }

    /// The next connection that stands, if one does.
    pub(crate) fn accept(&self) -> Result<Option<Box<Comm>>, PluginError> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.answer_the_door(state)?;
        self.hear(state);
        let joined = self.join(state)?;
        if joined.is_some() {
            state.waiting = None;
            return Ok(joined);
        }
        let after = state.waiting.get_or_insert_with(Instant::now).elapsed();
        if after > self.device.settings.timeout {
            let peer = state.joining.first().map_or("a peer".to_owned(), |joining| joining.peer.clone());
            let stage = if state.joining.is_empty() { "none connected" } else { "it did not become ready" };
            let device = self.device.describe();
            state.waiting = None;
            return Err(PluginError::Deadline { peer, device, after, stage });
        }
        Ok(None)
    }

    fn answer_the_door(&self, state: &mut State) -> Result<(), PluginError> {
        while state.knocking.len() < MAX_KNOCKING {
            let stream = match self.socket.accept() {
                Ok((socket, _)) => Stream::accepted(socket),
                Err(error) if not_now(&error) => break,
                // The caller was gone before it was answered.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(PluginError::system("accept", error)),
            };
            let key = connection_key(&self.secret, self.device.settings.key.as_ref());
            match stream {
                Ok(stream) => {
                    state.knocking.push(Knocking {
                        stream,
                        proof: Proof::listener(key)?,
                        since: Instant::now(),
                    });
                }
                Err(error) => return Err(PluginError::system("fcntl", error)),
            }
        }
        Ok(())
    }

    /// Goes on with everybody who knocks; who cannot prove the key is sent away, which is nobody else's matter.
    fn hear(&self, state: &mut State) {
        let limit = self.device.settings.timeout;
        let mut still = Vec::with_capacity(state.knocking.len());
        for mut knocking in std::mem::take(&mut state.knocking) {
            match knocking.advance() {
                Ok(None) if knocking.since.elapsed() < limit => still.push(knocking),
                Ok(None) => {}
                Ok(Some(Hello::Data { connection, lane })) => {
                    state.data.push((connection, lane, knocking.stream.into_socket(), knocking.since));
                }
                Ok(Some(Hello::Control(introduction))) => {
                    let peer = introduction.who.describe(&knocking.stream.peer());
                    let lanes =
                        if introduction.rdma.is_some() { 0 } else { usize::from(introduction.terms.lanes) };
                    state.joining.push(Joining {
                        peer,
                        lanes: (0..lanes.min(256)).map(|_| None).collect(),
                        introduction,
                        stream: knocking.stream,
                        rdma: None,
                        eager_bytes: 0,
                        welcomed: false,
                        since: Instant::now(),
                    });
                }
                Err(cause) => log::info(&format!("turned {} away: {cause}", knocking.stream.peer())),
            }
        }
        state.knocking = still;
        let State { data, joining, .. } = state;
        data.retain_mut(|(_, _, _, since)| since.elapsed() < limit);
        for waiting in std::mem::take(data) {
            let (connection, lane, ..) = waiting;
            let owner = joining.iter_mut().find(|joining| joining.introduction.connection == connection);
            match owner.and_then(|joining| joining.lanes.get_mut(usize::from(lane))) {
                Some(place) => *place = Some(waiting.2),
                None => data.push(waiting),
            }
        }
    }

    /// Goes on with every connection that is complete; the first that stands is handed out.
    fn join(&self, state: &mut State) -> Result<Option<Box<Comm>>, PluginError> {
        let limit = self.device.settings.timeout;
        let mut index = 0;
        while index < state.joining.len() {
            let joining = &mut state.joining[index];
            match joining.advance(self.device) {
                Ok(true) => {
                    let joined = state.joining.remove(index);
                    return joined.finish(self.device).map(Some);
                }
                Ok(false) if joining.since.elapsed() < limit => index += 1,
                // A caller that went away, or takes for ever, may have tried again since.
                Ok(false) => drop(state.joining.remove(index)),
                Err(PluginError::Connect { peer, cause, .. }) => {
                    log::info(&format!("{peer} went away while it connected: {cause}"));
                    state.joining.remove(index);
                }
                Err(error) => {
                    state.joining.remove(index);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

impl Knocking {
    /// What the socket is for, once it has proved the key and said so; why it is sent away.
    fn advance(&mut self) -> Result<Option<Hello>, String> {
        let open = self.stream.fill().map_err(|error| error.to_string())?;
        let proved = {
            let Stream { input, output, .. } = &mut self.stream;
            self.proof.is_done()
                || self.proof.advance(input, output).map_err(|refusal| format!("{refusal:?}"))?
        };
        // Also what tells the caller of a version that it does not speak.
        self.stream.flush().map_err(|error| error.to_string())?;
        let hello = if proved { self.stream.take_frame::<Hello>()? } else { None };
        if hello.is_none() && open == Open::Ended {
            return Err("it closed the connection before it had proved the key".to_owned());
        }
        Ok(hello)
    }
}

impl Joining {
    /// True when the connection stands.
    fn advance(&mut self, device: &'static Device) -> Result<bool, PluginError> {
        if self.lanes.iter().any(Option::is_none) {
            return Ok(false);
        }
        if !self.welcomed {
            self.welcome(device)?;
        }
        let away = |error: std::io::Error| {
            let (peer, device) = (self.peer.clone(), device.describe());
            PluginError::Connect { peer, device, cause: error.to_string() }
        };
        let open = self.stream.flush().and_then(|()| self.stream.fill()).map_err(away)?;
        let ready = self.stream.take_frame::<Ready>().map_err(|cause| PluginError::Protocol {
            peer: self.peer.clone(),
            device: device.describe(),
            cause,
        })?;
        if ready.is_none() && open == Open::Ended {
            return Err(away(std::io::Error::new(
                std::io::ErrorKind::ConnectionReset,
                "it closed the connection",
            )));
        }
        Ok(ready.is_some())
    }

    /// Answers the introduction.
    fn welcome(&mut self, device: &'static Device) -> Result<(), PluginError> {
        let Introduction { who, terms, rdma: theirs, .. } = &self.introduction;
        let fits = terms.check().and_then(|()| match (&device.kind, theirs) {
            (Kind::Rdma(_), Some(offer)) => offer.check(terms),
            (Kind::Tcp(_), None) => Ok(()),
            _ => Err(format!("{} was called by {}", device.describe(), who.device)),
        });
        if let Err(cause) = fits {
            self.stream.put_frame(&Answer::Refused { cause: cause.clone() });
            // The caller will read it, or notice that the connection ends.
            let _ = self.stream.flush();
            return Err(PluginError::Mismatch { device: device.describe(), peer: self.peer.clone(), cause });
        }
        // An eager message is copied by the processor, which must not write the GPU's memory.
        let eager_bytes = if device.gpu_direct() { 0 } else { terms.eager_bytes };
        self.eager_bytes = eager_bytes as usize;
        let mut offer = None;
        if let (Kind::Rdma(ports), Some(theirs)) = (&device.kind, theirs) {
            let agreed = super::hello::Terms { eager_bytes, ..*terms };
            let pending = rdma::Pending::answering(device, ports, theirs, &agreed)?;
            offer = Some(pending.offer());
            self.rdma = Some(pending.connect(theirs, &self.peer)?);
        }
        self.stream.put_frame(&Answer::Welcome { who: Identity::of(device), eager_bytes, rdma: offer });
        self.welcomed = true;
        Ok(())
    }

    fn finish(self, device: &'static Device) -> Result<Box<Comm>, PluginError> {
        let keep_alive = self.stream.keep_alive(device.settings.peer_timeout);
        keep_alive.map_err(|error| PluginError::system("setsockopt(SO_KEEPALIVE)", error))?;
        let control = Control::new(self.stream);
        let eager_bytes = self.eager_bytes;
        let path = if let Some(connected) = self.rdma {
            let receiver = rdma::Receiver::new(device, control, connected, eager_bytes)?;
            ReceivePath::Rdma(Box::new(receiver))
        } else {
            let lanes = self.lanes.into_iter().flatten().collect();
            ReceivePath::Tcp(Box::new(tcp::Receiver::new(control, lanes, eager_bytes)))
        };
        log::info(&format!("{} receives from {}", device.describe(), self.peer));
        Ok(Comm::receiver(device, self.peer, path))
    }
}
