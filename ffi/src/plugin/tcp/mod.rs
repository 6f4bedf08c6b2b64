//! Messages over TCP sockets that never block. A message is a 48-byte header and its payload, read straight into the
//! receive it belongs to; a large one is split over the data sockets. Announcements travel the other way on the
//! control socket.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod header;
mod lane;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;

use super::comm::Failure;
use super::connection::stream::ending;

/// Bytes of a payload that one system call moves: what is in the kernel then stays in the cache until the other side
/// takes it. Whole messages of 64 MiB go at half the speed (docs/performance.md).
const PIECE_BYTES: usize = 128 * 1024;

/// What the end of a data socket means.
fn broken(error: &std::io::Error) -> Failure {
    Failure::Lost(ending(error))
}
