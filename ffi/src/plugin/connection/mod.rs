//! Setting connections up without ever waiting: state machines that the core's repeated calls push on.
//!
//! One connection is a control socket and, over TCP, one to eight data sockets; over RDMA the control socket carries
//! what both sides must know of each other's queue pairs. Every socket begins with the preamble and the mutual proof
//! that `halo-fabric` has; then the caller says [`Hello`](hello::Hello), the listener welcomes it, the caller says it
//! is ready. Afterwards the control socket stays: its end, or its silence (TCP keep-alive), is how a lost peer shows.

pub(crate) mod caller;
pub(crate) mod hello;
pub(crate) mod listener;
pub(crate) mod proof;
pub(crate) mod stream;
