//! The listening side: every call of `accept` pushes on all callers that knock, and hands out the first that stands.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use halo_fabric::{PROOF_BYTES, nonce};
use rustix::io::Errno;

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

/// Callers that have not said yet what they are for, at one time: far fewer than the files that a process may usually have
/// open (1024), and more than ever call one listener at once unless it is an attack.
const MAX_KNOCKING: usize = 128;

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
    /// No caller could be answered, because no file can be opened.
    out_of_files: bool,
}

/// A socket that has not said what it is for.
#[derive(Debug)]
struct Knocking {
    stream: Stream,
    proof: Proof,
    has_spoken: bool,
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
        // Heard first, so that nobody is hung up on as silent who has only not been listened to.
        self.hear(state);
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
            let stage = match state {
                State { out_of_files: true, .. } => "no more files can be opened here: is ulimit -n too low?",
                _ if state.joining.is_empty() => "none connected",
                _ => "it did not become ready",
            };
            let device = self.device.describe();
            state.waiting = None;
            return Err(PluginError::Deadline { peer, device, after, stage });
        }
        Ok(None)
    }

    fn answer_the_door(&self, state: &mut State) -> Result<(), PluginError> {
        state.out_of_files = false;
        // Whoever is hung up on below was there before this call, and has been heard.
        for _ in 0..MAX_KNOCKING {
            let stream = match self.socket.accept() {
                Ok((socket, _)) => Stream::accepted(socket),
                Err(error) if not_now(&error) => break,
                // The caller waits at the door until a file is closed: as likely as not one of the job's own, soon.
                Err(error) if out_of_files(&error) => {
                    state.out_of_files = true;
                    break;
                }
                // The caller was gone before it was answered.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(PluginError::system("accept", error)),
            };
            let key = connection_key(&self.secret, self.device.settings.key.as_ref());
            match stream {
                Ok(stream) => {
                    state.hang_up_on_one_too_many();
                    state.knocking.push(Knocking {
                        stream,
                        proof: Proof::listener(key)?,
                        has_spoken: false,
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

impl State {
    /// Makes room for one more caller: the oldest that has said nothing goes, or if all have spoken, the oldest.
    fn hang_up_on_one_too_many(&mut self) {
        if self.knocking.len() >= MAX_KNOCKING {
            let silent = self.knocking.iter().position(|knocking| !knocking.has_spoken);
            let gone = self.knocking.remove(silent.unwrap_or(0));
            let peer = gone.stream.peer();
            log::info(&format!("turned {peer} away: {MAX_KNOCKING} callers have not proved the key yet"));
        }
    }
}

impl Knocking {
    /// What the socket is for, once it has proved the key and said so; why it is sent away.
    fn advance(&mut self) -> Result<Option<Hello>, String> {
        let open = self.stream.fill().map_err(|error| error.to_string())?;
        self.has_spoken |= !self.stream.input.is_empty();
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

/// Whether this process, or the system, has as many files open as it may.
fn out_of_files(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr};
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::plugin::device::{Properties, TcpInterface};
    use crate::plugin::settings::Settings;
    use crate::plugin::statistics::Statistics;

    fn listener() -> (Listener, Handle) {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let device = Device {
            members: vec![0],
            properties: Properties {
                name: c"lo".to_owned(),
                pci_path: None,
                guid: 0,
                pointer_support: 0,
                speed: 0,
                port: 0,
            },
            kind: Kind::Tcp(TcpInterface { address, index: 1 }),
            settings: Settings::from_env().unwrap(),
            statistics: Statistics::default(),
        };
        Listener::new(Box::leak(Box::new(device))).unwrap()
    }

    fn call(handle: &Handle) -> TcpStream {
        let caller = TcpStream::connect(handle.address).unwrap();
        caller.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        caller
    }

    /// Until so many have been answered.
    fn answer(listener: &Listener, count: usize) {
        for _ in 0..1000 {
            assert!(listener.accept().unwrap().is_none(), "nobody proves the key");
            if listener.state.lock().unwrap().knocking.len() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("not {count} callers were answered");
    }

    #[test]
    fn the_oldest_silent_caller_makes_room_for_a_new_one() {
        let (listener, handle) = listener();
        let mut speaks = call(&handle);
        // The first four bytes of what a peer says: it is slow, and no stranger.
        speaks.write_all(b"HALO").unwrap();
        answer(&listener, 1);
        let mut silent: Vec<_> = (1..MAX_KNOCKING).map(|_| call(&handle)).collect();
        answer(&listener, MAX_KNOCKING);
        let _new = call(&handle);
        let mut oldest = silent.remove(0);
        oldest.set_nonblocking(true).unwrap();
        let mut byte = [0];
        let hung_up = (0..1000).any(|_| {
            listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(1));
            matches!(oldest.read(&mut byte), Ok(0))
        });
        assert!(hung_up, "the oldest silent caller is still there");
        for mut other in silent.into_iter().chain([speaks]) {
            other.set_nonblocking(true).unwrap();
            let error = other.read(&mut byte).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        }
        assert_eq!(listener.state.lock().unwrap().knocking.len(), MAX_KNOCKING);
    }

    /// In a process of its own: others could open no file either.
    #[test]
    fn a_process_that_can_open_no_file_answers_later() {
        const ALONE: &str = "TESTED_WITHOUT_FILES";
        const NAME: &str =
            "plugin::connection::listener::tests::a_process_that_can_open_no_file_answers_later";
        if std::env::var_os(ALONE).is_none() {
            let mut limited = Command::new("sh");
            limited.args(["-c", "ulimit -n 64 && exec \"$0\" --exact --nocapture \"$1\""]);
            let output = limited.arg(std::env::current_exe().unwrap()).arg(NAME).env(ALONE, "1").output();
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let (listener, handle) = listener();
        let _caller = call(&handle);
        let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert!(listener.accept().unwrap().is_none());
        assert!(listener.state.lock().unwrap().out_of_files);
        drop(files);
        answer(&listener, 1);
        assert!(!listener.state.lock().unwrap().out_of_files);
    }
}
