//! What a fuzzer tries: a peer that writes into this side's memory whatever it likes, between this side's own steps.

use std::sync::Arc;

use halo_fabric::Arena;

use super::inbox::Inbox;
use super::layout::{self, EagerRecord, RING, Slot, done_word};
use super::ring::Ring;
use crate::plugin::fuzzing::{Buffers, Script};
use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, EAGER_SLOTS, MAX_LANES, MAX_POSTED, Striping};

const EAGER_BYTES: usize = 96;

/// A sender against a receiver.
pub(crate) fn inbox(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let size = layout::receiver::bytes(EAGER_BYTES);
    let arena = Arc::new(Arena::allocate(size).expect("a few pages of memory"));
    let striping = Striping { lanes: 1 + script.byte() as usize % MAX_LANES, threshold: 64 };
    let mut inbox = Inbox::new(Arc::clone(&arena), EAGER_BYTES, striping);
    let mut buffers = Buffers::default();
    let mut eager = 0u64;
    while !script.is_over() {
        match script.byte() % 6 {
            0 if inbox.room() > 0 => {
                let (request, incoming) = buffers.lend(i32::from(script.byte() % 3));
                inbox.post(request, 0, &incoming);
            }
            // The flag of a message that was written straight into its receive.
            1 => {
                let place = script.byte() as usize % 4;
                let word = done_word(u32::from(script.byte() % 4), script.size());
                for lane in 0..=script.byte() as usize % MAX_LANES {
                    arena.store(layout::receiver::flag(place, lane), word);
                }
            }
            // An eager message, in its turn or in another's.
            2 => {
                let number = eager + u64::from(script.byte() % 8 == 7);
                let slot = Slot::of(layout::receiver::SLOTS, number, EAGER_BYTES);
                let (tag, index) = (i32::from(script.byte() % 3), u64::from(script.byte() % 4));
                let record = EagerRecord { tag, bytes: script.size() as u32, index };
                arena.write(slot.record, bytemuck::bytes_of(&record));
                arena.store(slot.flag, number + 1);
                eager += 1;
            }
            // Anything, anywhere.
            3 => {
                let noise = script.take(16);
                let at = script.word() as usize % (size - noise.len());
                arena.write(at, noise);
            }
            4 => {
                let mut arrived = |arrival| buffers.arrived(&arrival);
                if inbox.take_eager(&mut arrived).is_err() || inbox.take_written(&mut arrived).is_err() {
                    break;
                }
                assert!(inbox.consumed() <= eager + EAGER_SLOTS as u64 + MAX_POSTED as u64);
            }
            _ => drop(inbox.anything_new()),
        }
    }
    buffers.check();
}

/// A receiver against a sender.
pub(crate) fn ring(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let size = layout::sender::bytes(EAGER_BYTES);
    let arena = Arc::new(Arena::allocate(size).expect("a few pages of memory"));
    let mut ring = Ring::new(Arc::clone(&arena));
    let mut written = 0u64;
    while !script.is_over() {
        match script.byte() % 5 {
            0 => {
                let mut entry = [0; ANNOUNCEMENT_BYTES];
                let given = script.take(ANNOUNCEMENT_BYTES);
                entry[..given.len()].copy_from_slice(given);
                arena.write(layout::sender::ring(written), &entry);
                written = written.wrapping_add(1);
            }
            1 => arena.store(layout::sender::ANNOUNCED, written),
            2 => arena.store(layout::sender::ANNOUNCED, script.word() % (2 * RING)),
            3 => {
                arena.store(layout::sender::CREDIT, script.word());
                let sent = script.word();
                assert!(ring.credit(sent).is_err() || ring.credit(sent).is_ok_and(|credit| credit <= sent));
            }
            _ => {
                let tag = i32::from(script.byte() % 3);
                match ring.next(tag) {
                    Ok((index, told)) => {
                        assert!(told.is_none_or(|told| (told.slot as usize) < MAX_POSTED && told.tag == tag));
                        ring.gone(tag, index);
                    }
                    Err(_) => break,
                }
            }
        }
    }
}
