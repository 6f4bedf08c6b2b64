//! Passing arenas between processes of one host: each rank pushes its arena's file descriptor to every peer over
//! an abstract Unix socket. Nothing lies in a file system, so nothing is left behind by a crash.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};

use crate::arena::Arena;
use crate::error::FabricError;
use crate::key::{hexadecimal, nonce};
use crate::poll::ready_before;

/// Where a rank takes arenas, told to a peer over its control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShmOffer {
    /// Name of the abstract socket.
    socket: String,
    /// What a pusher must say, so that no other process of the host can slip its memory in.
    secret: [u8; 32],
}

/// This rank's socket, open during bootstrap.
#[derive(Debug)]
pub(crate) struct ShmExchange {
    listener: OwnedFd,
    offer: ShmOffer,
    /// Who has connected and said nothing yet, oldest first.
    silent: Vec<OwnedFd>,
    /// How many were turned away, for the message about who did not come.
    refused: usize,
}

/// What a caller has said.
enum Said {
    Nothing,
    Noise,
    Push(usize, OwnedFd),
}

const GREETING_BYTES: usize = 32 + 8;
/// More callers than this are not listened to at once, lest strangers use up this process's files. A peer speaks as soon as
/// it has connected, so the one that is silent longest is hung up on.
const MOST_SILENT: usize = 256;

impl ShmExchange {
    /// Opens the socket under a random name.
    pub(crate) fn open() -> Result<Self, FabricError> {
        let socket = format!("halo-{}", hexadecimal(&nonce()?[..16]));
        // Who connected may be gone again before it is accepted, and the next one may never come.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = stream_socket(flags)?;
        bind(&listener, &abstract_address(&socket)?).map_err(system("bind(AF_UNIX)"))?;
        listen(&listener, 1024).map_err(system("listen(AF_UNIX)"))?;
        let offer = ShmOffer { socket, secret: nonce()? };
        Ok(Self { listener, offer, silent: Vec::new(), refused: 0 })
    }

    pub(crate) fn offer(&self) -> &ShmOffer {
        &self.offer
    }

    /// Pushes this rank's arena to a peer; never waits for the peer to look, unless others crowd its socket.
    pub(crate) fn push(
        theirs: &ShmOffer,
        rank: usize,
        arena: &Arena,
        deadline: Instant,
    ) -> Result<(), FabricError> {
        greet(&call(&theirs.socket, deadline)?, &theirs.secret, rank, arena)
    }

    /// Takes the next arena pushed here and says whose it is. Pushes without the secret are dropped, and nobody is kept
    /// waiting by a caller that says nothing.
    pub(crate) fn take(&mut self, bytes: usize, deadline: Instant) -> Result<(usize, Arena), FabricError> {
        loop {
            self.wait(deadline)?;
            self.admit()?;
            if let Some((rank, file)) = self.hear() {
                let arena = Arena::map(file, bytes).map_err(system("mmap of a peer's arena"))?;
                // Whoever touches a page first decides what it is, and this rank is who writes there. Where the system has no
                // such pages it says so, which the owner has told.
                let _ = arena.ask_for_huge_pages();
                return Ok((rank, arena));
            }
        }
    }

    /// Waits until somebody connects or speaks.
    fn wait(&self, deadline: Instant) -> Result<(), FabricError> {
        let sockets = std::iter::once(&self.listener).chain(&self.silent);
        let mut watched: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        if ready_before(deadline, &mut watched)? {
            return Ok(());
        }
        Err(FabricError::Handshake {
            peer: format!("a rank of this host at the socket {}", self.offer.socket),
            cause: format!("it did not share its memory before the deadline{}", self.strangers()),
        })
    }

    /// Who else was there, as the end of a sentence.
    fn strangers(&self) -> String {
        match (self.silent.len(), self.refused) {
            (0, 0) => String::new(),
            (silent, refused) => {
                format!("; of others that connected there, {silent} said nothing and {refused} were refused")
            }
        }
    }

    /// Lets the next caller in, if there is one.
    fn admit(&mut self) -> Result<(), FabricError> {
        match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(caller) => self.silent.push(caller),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(FabricError::system("accept(AF_UNIX)", error)),
        }
        if self.silent.len() > MOST_SILENT {
            self.refuse(0, "it said nothing for too long");
        }
        Ok(())
    }

    /// The first push among what callers have said; those that say anything else are turned away.
    fn hear(&mut self) -> Option<(usize, OwnedFd)> {
        let mut index = 0;
        while index < self.silent.len() {
            match said(&self.silent[index], &self.offer.secret) {
                Said::Nothing => index += 1,
                Said::Noise => self.refuse(index, "it does not know the secret"),
                Said::Push(rank, file) => {
                    self.silent.remove(index);
                    return Some((rank, file));
                }
            }
        }
        None
    }

    fn refuse(&mut self, index: usize, cause: &str) {
        self.silent.remove(index);
        self.refused += 1;
        tracing::warn!(socket = self.offer.socket, cause, "turned away who wanted to share memory");
    }
}

/// Connects to a peer's socket, which blocks while more wait there than it holds.
fn call(socket: &str, deadline: Instant) -> Result<OwnedFd, FabricError> {
    let stream = stream_socket(SocketFlags::CLOEXEC)?;
    let address = abstract_address(socket)?;
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        set_socket_timeout(&stream, Timeout::Send, Some(left)).map_err(system("setsockopt(SO_SNDTIMEO)"))?;
        match connect(&stream, &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(FabricError::system("connect(AF_UNIX)", error)),
        }
    }
    Err(FabricError::Handshake {
        peer: format!("a rank of this host at the socket {socket}"),
        cause: "it accepted no connection before the deadline".to_owned(),
    })
}

/// Says who this is, and passes the arena.
fn greet(stream: &OwnedFd, secret: &[u8; 32], rank: usize, arena: &Arena) -> Result<(), FabricError> {
    let mut greeting = [0; GREETING_BYTES];
    greeting[..32].copy_from_slice(secret);
    greeting[32..].copy_from_slice(&(rank as u64).to_le_bytes());
    let files = [arena.file()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(stream, &[IoSlice::new(&greeting)], &mut control, SendFlags::NOSIGNAL)
        .map_err(system("sendmsg(SCM_RIGHTS)"))?;
    Ok(())
}

/// What a caller has said by now. A greeting is sent in one piece and arrives so; a stranger's failure is its own.
fn said(stream: &OwnedFd, secret: &[u8; 32]) -> Said {
    let mut greeting = [0; GREETING_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut greeting)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let rank = u64::from_le_bytes(greeting[32..].try_into().expect("eight bytes")) as usize;
    match (received, file) {
        (Err(Errno::AGAIN | Errno::INTR), _) => Said::Nothing,
        (Ok(received), Some(file)) if received.bytes == GREETING_BYTES && greeting[..32] == *secret => {
            Said::Push(rank, file)
        }
        _ => Said::Noise,
    }
}

fn stream_socket(flags: SocketFlags) -> Result<OwnedFd, FabricError> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(system("socket(AF_UNIX)"))
}

fn abstract_address(name: &str) -> Result<SocketAddrUnix, FabricError> {
    SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(system("making an abstract socket name"))
}

fn system(call: &'static str) -> impl Fn(Errno) -> FabricError {
    move |error| FabricError::system(call, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn connected(exchange: &ShmExchange) -> OwnedFd {
        call(&exchange.offer.socket, soon()).unwrap()
    }

    #[test]
    fn an_arena_arrives_with_its_rank_and_a_stranger_is_dropped() {
        let mut exchange = ShmExchange::open().unwrap();
        let arena = Arena::allocate(4096).unwrap();
        let stranger = ShmOffer { secret: [0; 32], ..exchange.offer().clone() };
        ShmExchange::push(&stranger, 9, &arena, soon()).unwrap();
        ShmExchange::push(exchange.offer(), 3, &arena, soon()).unwrap();
        let (rank, mapped) = exchange.take(4096, soon()).unwrap();
        assert_eq!(rank, 3);
        mapped.store(0, 42);
        assert_eq!(arena.load(0), 42);
    }

    #[test]
    fn nobody_pushing_is_an_error_at_the_deadline() {
        let mut exchange = ShmExchange::open().unwrap();
        let error = exchange.take(4096, Instant::now() + Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().ends_with("before the deadline"), "{error}");
    }

    #[test]
    fn who_connects_and_says_nothing_keeps_nobody_waiting_and_may_speak_later() {
        let mut exchange = ShmExchange::open().unwrap();
        let arena = Arena::allocate(4096).unwrap();
        let (_stranger, late) = (connected(&exchange), connected(&exchange));
        drop(connected(&exchange));
        ShmExchange::push(exchange.offer(), 1, &arena, soon()).unwrap();
        assert_eq!(exchange.take(4096, soon()).unwrap().0, 1);
        greet(&late, &exchange.offer.secret, 2, &arena).unwrap();
        assert_eq!(exchange.take(4096, soon()).unwrap().0, 2);
        let error = exchange.take(4096, Instant::now() + Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("1 said nothing and 1 were refused"), "{error}");
    }

    #[test]
    fn nobody_is_accepted_where_nobody_is() {
        let mut exchange = ShmExchange::open().unwrap();
        exchange.admit().unwrap();
        assert!(exchange.silent.is_empty() && exchange.hear().is_none());
    }

    #[test]
    fn a_crowd_that_says_nothing_is_let_in_only_so_far() {
        let mut exchange = ShmExchange::open().unwrap();
        let arena = Arena::allocate(4096).unwrap();
        let _crowd: Vec<_> = (0..MOST_SILENT + 3).map(|_| connected(&exchange)).collect();
        ShmExchange::push(exchange.offer(), 1, &arena, soon()).unwrap();
        assert_eq!(exchange.take(4096, soon()).unwrap().0, 1);
        assert!(exchange.silent.len() <= MOST_SILENT, "{}", exchange.silent.len());
    }

    #[test]
    fn a_socket_that_is_full_is_an_error_at_the_deadline() {
        let exchange = ShmExchange::open().unwrap();
        // The kernel holds one more than it is told to.
        listen(&exchange.listener, 1).unwrap();
        let _waiting = [connected(&exchange), connected(&exchange)];
        let arena = Arena::allocate(4096).unwrap();
        let soon = Instant::now() + Duration::from_millis(10);
        let error = ShmExchange::push(exchange.offer(), 1, &arena, soon).unwrap_err();
        assert!(error.to_string().contains("accepted no connection"), "{error}");
    }
}
