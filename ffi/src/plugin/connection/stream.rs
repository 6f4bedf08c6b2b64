//! A TCP connection that never blocks: what does not go out waits here, and so does what is not a whole message yet.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use halo_fabric::{encode_frame, take_frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// More than any handshake needs; who sends more before it is let in is no peer.
const MAX_INPUT: usize = 64 * 1024;

/// A socket with what waits on both sides of it.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    connected: bool,
}

/// What a look at the socket has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    Yes,
    /// The peer has closed its side.
    Ended,
}

impl Stream {
    /// Begins to connect from one of this host's addresses.
    pub(crate) fn call(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&from.into())?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Self::new(socket.into(), false)
    }

    /// A connection that a listener has accepted.
    pub(crate) fn accepted(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(socket, true)
    }

    fn new(socket: TcpStream, connected: bool) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Vec::new(), output: Vec::new(), connected })
    }

    /// Whether the connection stands.
    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        if !self.connected {
            let mut watched = [PollFd::new(&self.socket, PollFlags::OUT)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut watched, Some(&now))? == 0 {
                return Ok(false);
            }
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            self.connected = true;
        }
        Ok(true)
    }

    /// Has the kernel notice a host that has gone: after about `silence` without an answer, to a probe while nothing is
    /// on its way, else to what is. For the control socket alone: little goes over it, and what does is always taken in,
    /// while a data socket may rightly stand still for as long as the core likes.
    pub(crate) fn keep_alive(&self, silence: Duration) -> io::Result<()> {
        let third = (silence / 3).max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(third).with_interval(third).with_retries(2);
        let socket = SockRef::from(&self.socket);
        socket.set_tcp_user_timeout(Some(silence))?;
        socket.set_tcp_keepalive(&probes)
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if not_now(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it at once, and nothing after it.
    pub(crate) fn close(&mut self) {
        // A peer that is gone needs no word.
        let _ = self.flush();
        self.output.clear();
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Takes in what has arrived.
    pub(crate) fn fill(&mut self) -> io::Result<Open> {
        let mut chunk = [0; 4096];
        while self.input.len() < MAX_INPUT {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(Open::Ended),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if not_now(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Open::Yes)
    }

    /// The next `N` bytes, if they are all here.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.input.first_chunk::<N>()?;
        self.input.drain(..N);
        Some(taken)
    }

    /// The next frame, if it is here whole.
    pub(crate) fn take_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        take_frame(&mut self.input)
    }

    /// Has a frame wait for the next flush.
    pub(crate) fn put_frame<T: Serialize>(&mut self, message: &T) {
        self.output.extend_from_slice(&encode_frame(message));
    }

    /// The socket alone; what waited is dropped.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    pub(crate) fn peer(&self) -> String {
        self.socket.peer_addr().map_or_else(|_| "a caller".to_owned(), |address| address.to_string())
    }
}

/// Whether a call on a socket that never blocks only means "not now". A time-out is none of that here: it is what the
/// kernel says of a host that answers no more.
pub(crate) fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What the end of a peer's socket says of the peer.
pub(crate) fn ending(error: &io::Error) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        TimedOut | HostUnreachable | NetworkUnreachable => {
            format!("its host does not answer any more ({error})")
        }
        BrokenPipe | ConnectionReset => format!("its process has ended ({error})"),
        _ => format!("the connection broke ({error})"),
    }
}

/// A listening socket that never blocks.
pub(crate) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&at.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}
