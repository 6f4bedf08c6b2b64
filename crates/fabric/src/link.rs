//! How a message travels to one peer. The only difference between the transports is behind [`Link`].

use std::sync::Arc;

use rustix::event::PollFd;
use smallvec::SmallVec;

use crate::arena::Arena;
use crate::message::{Lend, Outgoing};
use crate::rdma::{Memory, RdmaLink};
use crate::shm::ShmLink;
use crate::tcp::TcpLink;

/// The transports that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A peer on the same host: its arena is mapped here.
    Shm,
    /// RDMA writes over a reliable connected queue pair.
    Rdma,
    /// A TCP connection; the receiver copies into its own arena.
    Tcp,
}

impl Transport {
    /// Its name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Rdma => "rdma",
            Self::Tcp => "tcp",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why a link broke, in words; the mesh adds which peer and host.
pub(crate) type LinkFailure = String;

/// Registered memory of the caller's in which a payload lies.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) memory: Arc<Memory>,
    pub(crate) offset: usize,
}

/// One direction-pair with one peer. None of these calls waits.
pub(crate) trait Link {
    /// Whether [`Link::write`] can take a message now (the mesh has checked the peer's credit already).
    fn ready(&mut self) -> bool;

    /// Writes payload and header into the peer's slot for this message, then raises its flag behind them. The
    /// payload may be used again when this returns.
    fn write(&mut self, arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure>;

    /// As [`Link::write`]; a payload that lies in `source` may be read there until [`Link::oldest_unread`] is behind it,
    /// and one that has a `place` goes there if the peer has lent it. Whether it is read where it lies, and not copied.
    fn pass(
        &mut self,
        arena: &Arena,
        message: &Outgoing<'_>,
        _source: Option<Source>,
        _place: Option<usize>,
    ) -> Result<bool, LinkFailure> {
        self.write(arena, message).map(|()| false)
    }

    /// The oldest message whose payload may still be read where it lies.
    fn oldest_unread(&self) -> Option<u64> {
        None
    }

    /// Tells the peer that it may write to `source`.
    fn lend(&mut self, _arena: &Arena, _lend: &Lend, _source: &Source) -> Result<(), LinkFailure> {
        Ok(())
    }

    /// The peer writes there no more.
    fn take_back(&mut self) {}

    /// Whether the peer may write anywhere but to its slots.
    fn has_lent(&self) -> bool {
        false
    }

    /// Nothing of the caller's memory is read or written by this link any more.
    fn halt(&mut self) {}

    /// Tells the peer how many of its messages have been consumed here.
    fn write_credit(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure>;

    /// Moves what is under way: queued bytes out, arrived bytes into the arena, completions reaped. `consumed` messages of
    /// the peer have been given back here.
    fn progress(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure>;

    /// Whether everything written has left this process.
    fn flushed(&self) -> bool;

    /// Whether it has reached the peer's host, so that closing loses nothing.
    fn delivered(&self) -> bool {
        self.flushed()
    }

    /// Has the peer ring when it next writes something here, where it cannot see by itself that this rank sleeps.
    fn ask_to_be_rung(&self) {}

    /// How a sleeping rank hears of this peer.
    fn alarm(&self) -> Alarm<'_>;
}

/// What wakes a rank that sleeps.
#[derive(Debug)]
pub(crate) enum Alarm<'a> {
    /// The bell in the arena, rung by the peer.
    Bell,
    /// One of its sockets becomes ready.
    Sockets(SmallVec<[PollFd<'a>; 1]>),
}

/// A link of any transport: static dispatch, one predictable branch.
#[derive(Debug)]
pub(crate) enum AnyLink {
    Shm(ShmLink),
    Rdma(RdmaLink),
    Tcp(TcpLink),
}

macro_rules! dispatch {
    ($self:ident, $link:ident => $call:expr) => {
        match $self {
            Self::Shm($link) => $call,
            Self::Rdma($link) => $call,
            Self::Tcp($link) => $call,
        }
    };
}

impl Link for AnyLink {
    #[inline]
    fn ready(&mut self) -> bool {
        dispatch!(self, link => link.ready())
    }

    #[inline]
    fn write(&mut self, arena: &Arena, message: &Outgoing<'_>) -> Result<(), LinkFailure> {
        dispatch!(self, link => link.write(arena, message))
    }

    #[inline]
    fn pass(
        &mut self,
        arena: &Arena,
        message: &Outgoing<'_>,
        source: Option<Source>,
        place: Option<usize>,
    ) -> Result<bool, LinkFailure> {
        dispatch!(self, link => link.pass(arena, message, source, place))
    }

    #[inline]
    fn oldest_unread(&self) -> Option<u64> {
        dispatch!(self, link => link.oldest_unread())
    }

    fn lend(&mut self, arena: &Arena, lend: &Lend, source: &Source) -> Result<(), LinkFailure> {
        dispatch!(self, link => link.lend(arena, lend, source))
    }

    fn take_back(&mut self) {
        dispatch!(self, link => link.take_back());
    }

    fn has_lent(&self) -> bool {
        dispatch!(self, link => link.has_lent())
    }

    fn halt(&mut self) {
        dispatch!(self, link => link.halt());
    }

    #[inline]
    fn write_credit(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        dispatch!(self, link => link.write_credit(arena, consumed))
    }

    #[inline]
    fn progress(&mut self, arena: &Arena, consumed: u64) -> Result<(), LinkFailure> {
        dispatch!(self, link => link.progress(arena, consumed))
    }

    fn flushed(&self) -> bool {
        dispatch!(self, link => link.flushed())
    }

    fn delivered(&self) -> bool {
        dispatch!(self, link => link.delivered())
    }

    fn ask_to_be_rung(&self) {
        dispatch!(self, link => link.ask_to_be_rung());
    }

    fn alarm(&self) -> Alarm<'_> {
        dispatch!(self, link => link.alarm())
    }
}
