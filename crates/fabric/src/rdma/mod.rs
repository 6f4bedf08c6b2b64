//! RDMA: payload and header in one write, the flag in a second, small one behind it, both in one post. Writes on one
//! reliable connection become visible in the order they were posted, so a raised flag means a whole message.

mod link;
mod setup;

pub(crate) use link::RdmaLink;
pub(crate) use setup::{RdmaEndpoint, RdmaOffer, RdmaPending, RdmaPort};
