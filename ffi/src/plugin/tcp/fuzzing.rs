//! What a fuzzer tries: a sender's stream of frames against receives that wait.

use halo_fabric::fuzzing::Pieces;

use super::receiver::{Inbox, Lane};
use crate::plugin::fuzzing::{Buffers, Script};

/// Reads the bytes as one lane's stream, in pieces, until they end or make no sense.
pub(crate) fn lane(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut inbox = Inbox::new(64);
    let mut buffers = Buffers::default();
    for _ in 0..script.byte() % 5 {
        let (request, incoming) = buffers.lend(i32::from(script.byte() % 3));
        inbox.post(request, 0, &incoming);
    }
    let piece = usize::from(script.byte());
    let rest = script.rest();
    let mut lane = Lane::new(Pieces::new(rest, piece));
    for _ in 0..rest.len() + 2 {
        if lane.receive(&mut inbox, &mut |arrival| buffers.arrived(&arrival)).is_err() {
            break;
        }
    }
    buffers.check();
}
