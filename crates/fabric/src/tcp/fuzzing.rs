//! What a fuzzer tries: a whole stream of a peer's.

use super::receiver::Receiver;
use crate::arena::Arena;
use crate::fuzzing::Pieces;
use crate::layout::{FLAG_IN_TRAILER, Layout};

const LAYOUT: Layout = Layout { world: 2, slot_bytes: 256, slots: 2 };

/// Reads the bytes as a peer's side of a TCP link, in pieces of `piece` bytes, until they end or make no sense.
pub(crate) fn stream(bytes: &[u8], piece: usize) {
    let arena = Arena::allocate(LAYOUT.arena_bytes()).expect("a few pages of memory");
    let mut receiver = Receiver::new(0, 1, LAYOUT, 1);
    let mut pieces = Pieces::new(bytes, piece);
    let mut consumed = 0;
    while !pieces.ended() {
        if receiver.receive(&mut pieces, &arena, consumed).is_err() {
            return;
        }
        // A rank consumes what it sees, and gives the slot back.
        let slot = LAYOUT.slot(0, 1, consumed + 1);
        consumed += u64::from(arena.load(slot + LAYOUT.slot_bytes + FLAG_IN_TRAILER) == consumed + 1);
    }
}
