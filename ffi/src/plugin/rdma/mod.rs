//! Messages over RDMA. Each is one write with an immediate value, which says what has come: a large one goes straight
//! into its receive, whose address the receiver has announced in a ring in the sender's memory; a small one goes eagerly
//! into a slot of the receiver's and is copied from there. The receiver's queue pairs have a receive posted for everything
//! that can be under way. As long as messages go eagerly the sender tells the receiver to be quiet: what is not announced
//! costs neither side anything.
//!
//! A device may be several ports. Each is a rail of the connection: it has its own completion queue, and memory
//! is registered with each. The queue pairs are dealt out over the caller's ports in turn; the listener puts the other end
//! of each on the port that is in the same network.

mod flush;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod immediate;
mod inbox;
mod lane;
mod layout;
mod port_watch;
mod rail;
mod receiver;
mod ring;
mod sender;
mod setup;

pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;
pub(crate) use setup::{Connected, Pending, RdmaOffer};

#[cfg(test)]
pub(crate) use setup::tests::offer as offer_for_tests;

use super::comm::Failure;
use super::comm::control::Control;
use super::device::RdmaPort;

/// What a failed work request means: the peer's silence, unless this side's own port is down.
fn failure(port: &RdmaPort, error: &halo_verbs::Error) -> Failure {
    let cause = format!("{error}; {}", port.state());
    if port.is_active() { Failure::Lost(cause) } else { Failure::Device(cause) }
}

/// The same for a completion. A process that ends takes its memory away before its queue pairs, so that its NIC answers
/// with a remote access error: where the control connection knows of the end, that is the cause.
fn failed(control: &mut Control, port: &RdmaPort, error: &halo_verbs::Error) -> Failure {
    control.exchange();
    match (failure(port, error), control.ended()) {
        (Failure::Lost(cause), Some(end)) => Failure::Lost(format!("{end} ({cause})")),
        (failure, _) => failure,
    }
}

/// What the end of the control connection means: that of the peer, unless one of this side's own ports is down. With several
/// the connection may end for one that this side has not used.
fn ended(connected: &Connected, cause: &str) -> Failure {
    match connected.port_that_is_down() {
        Some(port) => Failure::Device(format!("{cause}; {}", port.state())),
        None => Failure::Lost(cause.to_owned()),
    }
}

/// Tells the peer of a failure that ends the connection. Over several ports it need not notice by itself: those that it
/// uses may all be well.
fn give_up(control: &mut Control, failure: &Failure) {
    if let Failure::Lost(cause) | Failure::Device(cause) = failure {
        control.give_up(cause);
    }
}
