//! Messages over RDMA. Each is one write with an immediate value, which says what has come: a large one goes straight
//! into its receive, whose address the receiver has announced in a ring in the sender's memory; a small one goes eagerly
//! into a slot of the receiver's and is copied from there. The receiver's queue pairs have a receive posted for everything
//! that can be under way. As long as messages go eagerly the sender tells the receiver to be quiet: what is not announced
//! costs neither side anything.

mod flush;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod immediate;
mod inbox;
mod lane;
mod layout;
mod receiver;
mod ring;
mod sender;
mod setup;

pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;
pub(crate) use setup::{Connected, Pending, RdmaOffer, Role};

use super::comm::Failure;
use super::comm::control::Control;
use super::device::RdmaPort;

/// What a failed work request means: the peer's silence, unless this side's own port is down.
fn failure(port: &RdmaPort, error: &halo_verbs::Error) -> Failure {
    let state = port.state();
    let cause = format!("{error}; {state}");
    if state.ends_with("is active") { Failure::Lost(cause) } else { Failure::Device(cause) }
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
