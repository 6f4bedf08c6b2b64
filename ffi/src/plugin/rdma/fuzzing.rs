//! What a fuzzer tries: a peer that writes into this side's memory whatever it likes, between this side's own steps.

use std::net::Ipv4Addr;
use std::sync::Arc;

use halo_fabric::Arena;

use super::RdmaOffer;
use super::immediate::Immediate;
use super::inbox::Inbox;
use super::layout::{self, RING};
use super::ring::Ring;
use crate::plugin::device::network::Network;
use crate::plugin::fuzzing::{Buffers, Script};
use crate::plugin::protocol::{ANNOUNCEMENT_BYTES, MAX_LANES, MAX_POSTED};

const EAGER_BYTES: usize = 96;

/// An offer that was let through: a listener with two ports answers by one of them each queue pair that it answers.
pub(crate) fn answer(offer: &RdmaOffer, queue_pairs: usize) {
    let networks = [Network::of(Ipv4Addr::LOCALHOST.into()), None];
    let rails = offer.rails_on(&networks);
    assert!(rails.len() == queue_pairs && rails.iter().flatten().all(|rail| *rail < networks.len()));
    assert!(rails.iter().any(Option::is_some), "one of them at least");
}

/// A sender against a receiver.
pub(crate) fn inbox(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let size = layout::receiver::bytes(EAGER_BYTES);
    let arena = Arc::new(Arena::allocate(size).expect("a few pages of memory"));
    let mut inbox = Inbox::new(Arc::clone(&arena), EAGER_BYTES);
    let mut buffers = Buffers::default();
    while !script.is_over() {
        let mut arrived = |arrival| buffers.arrived(&arrival);
        let taken = match script.byte() % 6 {
            0 if inbox.room() > 0 => {
                let (request, incoming) = buffers.lend(i32::from(script.byte() % 3));
                inbox.post(request, 0, &incoming);
                Ok(())
            }
            // A part of a message that was written straight into its receive.
            1 => {
                let (place, generation) = (u32::from(script.byte() % 4), u32::from(script.byte() % 4));
                let part = Immediate::part(place, generation, 1 + script.byte() as usize % MAX_LANES);
                inbox.take(part.encode(), script.size() as u32, &mut arrived)
            }
            2 => {
                let eager = Immediate::eager(u16::from(script.byte() % 3), u64::from(script.byte() % 4));
                inbox.take(eager.encode(), script.size() as u32, &mut arrived)
            }
            // Anything, anywhere.
            3 => {
                let noise = script.take(16);
                arena.write(script.word() as usize % (size - noise.len()), noise);
                inbox.take(script.word() as u32, script.word() as u32, &mut arrived)
            }
            4 => inbox.take_eager(&mut arrived),
            _ => {
                inbox.tell(|told| assert!((told.slot as usize) < MAX_POSTED && told.room > 0));
                Ok(())
            }
        };
        if taken.is_err() {
            break;
        }
    }
    buffers.check();
}

/// A receiver against a sender.
pub(crate) fn ring(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let arena = Arc::new(Arena::allocate(layout::sender::BYTES).expect("a few pages of memory"));
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
