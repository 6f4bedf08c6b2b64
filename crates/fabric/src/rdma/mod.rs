//! RDMA: the payload in one write, header and flag in a second, inline one behind it, both in one post; a short payload
//! travels in the header. Writes on one reliable connection become visible in the order they were posted; for the order
//! within the second, on which the specification says nothing, the flag carries a check of its header. So a flag that
//! fits its header means a whole message.

mod link;
mod regions;
mod setup;

pub(crate) use link::RdmaLink;
pub(crate) use regions::Regions;
pub(crate) use setup::{RdmaEndpoint, RdmaOffer, RdmaPending, RdmaPort};
