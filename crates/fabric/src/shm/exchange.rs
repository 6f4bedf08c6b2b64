//! Passing arenas between processes of one host: each rank pushes its arena's file descriptor to every peer over
//! an abstract Unix socket. Nothing lies in a file system, so nothing is left behind by a crash.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};

use crate::arena::Arena;
use crate::error::FabricError;
use crate::key::{hexadecimal, nonce};

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
}

const GREETING_BYTES: usize = 32 + 8;

impl ShmExchange {
    /// Opens the socket under a random name.
    pub(crate) fn open() -> Result<Self, FabricError> {
        let system = |call: &'static str| move |error: rustix::io::Errno| FabricError::system(call, error);
        let socket = format!("halo-{}", hexadecimal(&nonce()?[..16]));
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(system("socket(AF_UNIX)"))?;
        bind(&listener, &abstract_address(&socket)?).map_err(system("bind(AF_UNIX)"))?;
        listen(&listener, 1024).map_err(system("listen(AF_UNIX)"))?;
        Ok(Self { listener, offer: ShmOffer { socket, secret: nonce()? } })
    }

    pub(crate) fn offer(&self) -> &ShmOffer {
        &self.offer
    }

    /// Pushes this rank's arena to a peer; never waits for the peer to look.
    pub(crate) fn push(theirs: &ShmOffer, rank: usize, arena: &Arena) -> Result<(), FabricError> {
        let system = |call: &'static str| move |error: rustix::io::Errno| FabricError::system(call, error);
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(system("socket(AF_UNIX)"))?;
        connect(&stream, &abstract_address(&theirs.socket)?).map_err(system("connect(AF_UNIX)"))?;
        let mut greeting = [0; GREETING_BYTES];
        greeting[..32].copy_from_slice(&theirs.secret);
        greeting[32..].copy_from_slice(&(rank as u64).to_le_bytes());
        let files = [arena.file()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(&stream, &[IoSlice::new(&greeting)], &mut control, SendFlags::NOSIGNAL)
            .map_err(system("sendmsg(SCM_RIGHTS)"))?;
        Ok(())
    }

    /// Takes the next arena pushed here and says whose it is. Pushes without the secret are dropped.
    pub(crate) fn take(&self, bytes: usize, deadline: Instant) -> Result<(usize, Arena), FabricError> {
        loop {
            self.wait(&self.listener, deadline)?;
            let stream = accept_with(&self.listener, SocketFlags::CLOEXEC)
                .map_err(|error| FabricError::system("accept(AF_UNIX)", error))?;
            self.wait(&stream, deadline)?;
            if let Some((rank, file)) = self.receive(&stream)? {
                let arena = Arena::map(file, bytes)
                    .map_err(|error| FabricError::system("mmap of a peer's arena", error))?;
                return Ok((rank, arena));
            }
            tracing::warn!("dropped a shared-memory push that did not know the secret");
        }
    }

    fn receive(&self, stream: &OwnedFd) -> Result<Option<(usize, OwnedFd)>, FabricError> {
        let mut greeting = [0; GREETING_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut greeting)], &mut control, RecvFlags::CMSG_CLOEXEC)
                .map_err(|error| FabricError::system("recvmsg(SCM_RIGHTS)", error))?;
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let known = received.bytes == GREETING_BYTES && greeting[..32] == self.offer.secret;
        let rank = u64::from_le_bytes(greeting[32..].try_into().expect("eight bytes")) as usize;
        Ok(file.filter(|_| known).map(|file| (rank, file)))
    }

    fn wait(&self, socket: &OwnedFd, deadline: Instant) -> Result<(), FabricError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec::try_from(left).expect("a deadline fits a timespec");
        let mut watched = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&left)) {
            Ok(0) => Err(FabricError::Handshake {
                peer: format!("a rank of this host at the socket {}", self.offer.socket),
                cause: "it did not share its memory before the deadline".to_owned(),
            }),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(FabricError::system("poll", error)),
        }
    }
}

fn abstract_address(name: &str) -> Result<SocketAddrUnix, FabricError> {
    SocketAddrUnix::new_abstract_name(name.as_bytes())
        .map_err(|error| FabricError::system("making an abstract socket name", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_arena_arrives_with_its_rank_and_a_stranger_is_dropped() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let exchange = ShmExchange::open().unwrap();
        let arena = Arena::allocate(4096).unwrap();
        let stranger = ShmOffer { secret: [0; 32], ..exchange.offer().clone() };
        ShmExchange::push(&stranger, 9, &arena).unwrap();
        ShmExchange::push(exchange.offer(), 3, &arena).unwrap();
        let (rank, mapped) = exchange.take(4096, deadline).unwrap();
        assert_eq!(rank, 3);
        mapped.store(0, 42);
        assert_eq!(arena.load(0), 42);
    }

    #[test]
    fn nobody_pushing_is_an_error_at_the_deadline() {
        let exchange = ShmExchange::open().unwrap();
        let error = exchange.take(4096, Instant::now() + Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("deadline"), "{error}");
    }
}
