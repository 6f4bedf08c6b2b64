//! RDMA: the payload in one write, header and flag in a second, inline one behind it, both in one post; a short payload
//! travels in the header. Writes on one reliable connection become visible in the order they were posted; for the order
//! within the second, on which the specification says nothing, the flag carries a check of its header. So a flag that
//! fits its header means a whole message.
//!
//! A link may have several rails, each a queue pair over another NIC port. The receiver polls the slot of the next message
//! and does not care by which rail it comes, so every message may go by any: `stripes` chooses, `journal` knows what to
//! write again when a rail is lost.

mod depth;
mod journal;
mod link;
mod memory;
mod port_watch;
mod ports;
mod rail;
mod regions;
mod setup;
mod several;
mod stripes;

pub(crate) use journal::RailClosed;
pub(crate) use link::RdmaLink;
pub(crate) use memory::Memory;
pub(crate) use port_watch::PortWatch;
pub(crate) use ports::{Port, RdmaPorts};
pub(crate) use setup::{RdmaEndpoint, RdmaOffer, RdmaPending, Way};
