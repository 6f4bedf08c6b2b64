//! Which message went by which rail: what must be written again when a rail is lost.
//!
//! A rail is lost to both ranks before anything is written again. Each gives its queue pair back, so that nothing arrives
//! by that rail any more, then tells the other what has arrived ([`RailClosed`]). What went by the lost rail and is not
//! among it is written again over the others. So every message is written to its slot once, whatever was on its way when
//! the rail broke: nothing late can overwrite the next message in that slot, or memory that its owner uses again.

use halo_verbs::Remote;
use serde::{Deserialize, Serialize};

use crate::message::MAX_RAILS;

/// What a rank tells a peer whose rail it has closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RailClosed {
    /// Which of the rails of this pair.
    pub(crate) rail: u32,
    /// Why, in words.
    pub(crate) cause: String,
    /// The peer's messages that have been consumed here: all up to this number.
    pub(crate) consumed: u64,
    /// Those behind it that have arrived.
    pub(crate) arrived: Vec<u64>,
}

impl RailClosed {
    fn has(&self, number: u64) -> bool {
        number <= self.consumed || self.arrived.contains(&number)
    }
}

/// Where in what the peer has lent a payload goes: its address, and the key of each rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) address: u64,
    pub(super) keys: [u32; MAX_RAILS],
}

impl Placed {
    /// As a write by this rail addresses it.
    pub(super) fn on(&self, rail: usize) -> Remote {
        Remote { address: self.address, key: self.keys[rail] }
    }
}

/// One message.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    number: u64,
    rail: usize,
    placed: Option<Placed>,
}

/// The messages whose slots may not have been given back: the last one of each slot.
#[derive(Debug)]
pub(super) struct Journal {
    sent: Box<[Sent]>,
}

impl Journal {
    pub(super) fn new(slots: usize) -> Self {
        Self { sent: vec![Sent::default(); slots].into_boxed_slice() }
    }

    /// A message goes by this rail, for the first time or again.
    #[inline]
    pub(super) fn note(&mut self, number: u64, rail: usize, placed: Option<Placed>) {
        let slots = self.sent.len() as u64;
        self.sent[(number % slots) as usize] = Sent { number, rail, placed };
    }

    /// Where the payload of a message went if not to its slot.
    pub(super) fn placed(&self, number: u64) -> Option<Placed> {
        let slots = self.sent.len() as u64;
        let sent = &self.sent[(number % slots) as usize];
        sent.placed.filter(|_| sent.number == number)
    }

    /// The messages that went by a rail and have not arrived, now that the peer has closed it too; oldest first.
    pub(super) fn missing(&self, rail: usize, closed: &RailClosed) -> Vec<u64> {
        let by_this = self.sent.iter().filter(|sent| sent.number > 0 && sent.rail == rail);
        let mut missing: Vec<u64> =
            by_this.map(|sent| sent.number).filter(|number| !closed.has(*number)).collect();
        missing.sort_unstable();
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Window;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const RAILS: usize = 3;
    const SLOTS: usize = 3;

    /// One direction of a link with several rails: a sender, a receiver's slots, and rails that deliver in order, late, and
    /// at some time no more.
    struct Pair {
        window: Window,
        journal: Journal,
        /// On its way by each rail.
        rails: Vec<VecDeque<u64>>,
        /// Of each rail: whether the sender, and the receiver, has closed it.
        closed: Vec<(bool, bool)>,
        /// What the receiver has said and the sender not heard.
        said: VecDeque<RailClosed>,
        again: VecDeque<u64>,
        slots: [u64; SLOTS],
        consumed: u64,
    }

    impl Pair {
        fn new() -> Self {
            Self {
                window: Window::new(SLOTS),
                journal: Journal::new(SLOTS),
                rails: vec![VecDeque::new(); RAILS],
                closed: vec![(false, false); RAILS],
                said: VecDeque::new(),
                again: VecDeque::new(),
                slots: [0; SLOTS],
                consumed: 0,
            }
        }

        fn live(&self, wish: usize) -> Option<usize> {
            (0..RAILS).map(|more| (wish + more) % RAILS).find(|rail| !self.closed[*rail].0)
        }

        fn send(&mut self, wish: usize) {
            if let (true, Some(rail)) = (self.window.has_room(), self.live(wish)) {
                let (number, _) = self.window.send();
                self.journal.note(number, rail, None);
                self.rails[rail].push_back(number);
            }
        }

        fn deliver(&mut self, rail: usize) -> Result<(), TestCaseError> {
            if self.closed[rail].1 {
                return Ok(());
            }
            if let Some(number) = self.rails[rail].pop_front() {
                let slot = &mut self.slots[(number % SLOTS as u64) as usize];
                prop_assert!(*slot <= self.consumed, "{} over {}, {} consumed", number, slot, self.consumed);
                prop_assert!(number > self.consumed, "{} came after it was consumed", number);
                *slot = number;
            }
            Ok(())
        }

        fn consume(&mut self) {
            let next = self.consumed + 1;
            if self.slots[(next % SLOTS as u64) as usize] == next {
                self.consumed = next;
                self.window.learn(next);
            }
        }

        /// Rails that both sides still use: one always stays.
        fn open(&self) -> usize {
            self.closed.iter().filter(|(by_sender, by_receiver)| !by_sender && !by_receiver).count()
        }

        /// The receiver closes a rail, by itself or because the sender has.
        fn close(&mut self, rail: usize) {
            let (by_sender, by_receiver) = self.closed[rail];
            if by_receiver || !(by_sender || self.open() >= 2) {
                return;
            }
            self.closed[rail].1 = true;
            let arrived = self.slots.iter().copied().filter(|number| *number > self.consumed).collect();
            let (cause, consumed) = (String::new(), self.consumed);
            self.said.push_back(RailClosed { rail: rail as u32, cause, consumed, arrived });
        }

        fn lose(&mut self, rail: usize) {
            self.closed[rail].0 |= self.closed[rail].1 || self.open() >= 2;
        }

        fn hear(&mut self) {
            if let Some(closed) = self.said.pop_front() {
                let rail = closed.rail as usize;
                self.closed[rail].0 = true;
                self.again.extend(self.journal.missing(rail, &closed));
            }
        }

        fn rewrite(&mut self, wish: usize) {
            if let (Some(rail), Some(number)) = (self.live(wish), self.again.pop_front()) {
                self.journal.note(number, rail, self.journal.placed(number));
                self.rails[rail].push_back(number);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        /// Rails are lost by either side at any time, with anything on its way and what is said heard late: every message
        /// comes once, no slot is written before it was consumed, and in the end all is there.
        #[test]
        fn every_message_comes_once_whatever_rails_are_lost(steps in proptest::collection::vec((0u8..12, 0usize..RAILS), 1..400)) {
            let mut pair = Pair::new();
            for (step, rail) in steps {
                match step {
                    0..=3 => pair.send(rail),
                    4..=6 => pair.deliver(rail)?,
                    7..=8 => pair.consume(),
                    9 => pair.rewrite(rail),
                    10 => pair.hear(),
                    _ if rail == 0 => pair.close(rail),
                    _ => pair.lose(rail),
                }
            }
            for _ in 0..10 * SLOTS {
                for rail in 0..RAILS {
                    if pair.closed[rail].0 {
                        pair.close(rail);
                    }
                    pair.hear();
                    pair.rewrite(rail);
                    pair.deliver(rail)?;
                    pair.consume();
                }
            }
            prop_assert_eq!(pair.consumed, pair.window.sent());
        }
    }

    #[test]
    fn what_was_placed_is_known_until_its_slot_is_used_again() {
        let mut journal = Journal::new(2);
        let placed = Placed { address: 9, keys: [1; MAX_RAILS] };
        journal.note(1, 0, Some(placed));
        journal.note(2, 1, None);
        assert_eq!((journal.placed(1), journal.placed(2)), (Some(placed), None));
        journal.note(3, 1, None);
        assert_eq!(journal.placed(1), None);
        let closed = RailClosed { rail: 1, cause: String::new(), consumed: 1, arrived: vec![3] };
        assert_eq!((journal.missing(1, &closed), journal.missing(0, &closed)), (vec![2], vec![]));
    }
}
