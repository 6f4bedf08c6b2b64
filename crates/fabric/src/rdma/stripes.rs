//! Which rail takes which large message: the one that would be done with it first, by what each has still to do and how
//! fast it has been. No clock is read here and nothing is posted.

use std::collections::VecDeque;

/// Messages from this size on are spread over the rails; at 100 Gb/s it takes 2.6 us, about as long as a write takes to
/// begin. Smaller ones go by the first rail.
pub(super) const STRIPED_BYTES: usize = 32 * 1024;
/// A rail that was not chosen so many times in a row is tried again: it may have become faster.
const NEGLECTED: u64 = 64;
/// How much of the old rate is kept with each new measurement.
const KEPT: f64 = 0.875;

/// A message that is not known to be complete.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// The work request whose completion says that it is.
    id: u64,
    bytes: u64,
    posted: u64,
}

#[derive(Debug)]
struct Lane {
    out: bool,
    waiting: VecDeque<Waiting>,
    /// Bytes of what waits.
    backlog: u64,
    /// Bytes and the nanoseconds they took, older ones counted less: their quotient is the rate.
    bytes: f64,
    nanoseconds: f64,
    /// When it was last done with something.
    done: u64,
    /// The choice that was last for it.
    chosen: u64,
    /// What was measured long ago is forgotten with the next measurement.
    stale: bool,
}

impl Lane {
    fn rate(&self) -> Option<f64> {
        (self.nanoseconds > 0.0).then(|| self.bytes / self.nanoseconds)
    }
}

/// What is known of the rails of one link.
#[derive(Debug)]
pub(super) struct Stripes {
    lanes: Vec<Lane>,
    choices: u64,
}

impl Stripes {
    /// `rails` rails of which nothing is known, with room for `messages` messages each.
    pub(super) fn new(rails: usize, messages: usize) -> Self {
        let lane = |_| Lane {
            out: false,
            waiting: VecDeque::with_capacity(messages),
            backlog: 0,
            bytes: 0.0,
            nanoseconds: 0.0,
            done: 0,
            chosen: 0,
            stale: false,
        };
        Self { lanes: (0..rails).map(lane).collect(), choices: 0 }
    }

    /// The first rail that is not out: it carries whatever is small.
    #[inline]
    pub(super) fn first(&self) -> usize {
        self.lanes.iter().position(|lane| !lane.out).unwrap_or(0)
    }

    /// The rail for a large message.
    pub(super) fn choose(&mut self, bytes: usize) -> usize {
        self.choices += 1;
        // A rail that has not been measured yet is taken to be as good as the best.
        let best = self.lanes.iter().filter_map(Lane::rate).fold(0.0, f64::max);
        let best = if best > 0.0 { best } else { 1.0 };
        let (mut chosen, mut earliest) = (self.first(), f64::INFINITY);
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            if lane.out {
                continue;
            }
            if lane.backlog == 0 && self.choices - lane.chosen > NEGLECTED {
                chosen = index;
                self.lanes[index].stale = true;
                break;
            }
            let end = (lane.backlog + bytes as u64) as f64 / lane.rate().unwrap_or(best);
            if end < earliest {
                (chosen, earliest) = (index, end);
            }
        }
        self.lanes[chosen].chosen = self.choices;
        chosen
    }

    /// A message was posted at `now` (nanoseconds of any one clock), and its completion will have this number.
    pub(super) fn posted(&mut self, rail: usize, id: u64, bytes: usize, now: u64) {
        let lane = &mut self.lanes[rail];
        lane.waiting.push_back(Waiting { id, bytes: bytes as u64, posted: now });
        lane.backlog += bytes as u64;
    }

    /// Whether it is news of a rail that everything up to this number is complete.
    pub(super) fn awaits(&self, rail: usize, id: u64) -> bool {
        self.lanes[rail].waiting.front().is_some_and(|oldest| oldest.id <= id)
    }

    /// At `now` everything up to this number was seen to be complete.
    pub(super) fn completed(&mut self, rail: usize, id: u64, now: u64) {
        let lane = &mut self.lanes[rail];
        let (mut bytes, mut began) = (0, now);
        while let Some(oldest) = lane.waiting.front().copied().filter(|oldest| oldest.id <= id) {
            lane.waiting.pop_front();
            // Before it was posted, or while others were under way, the rail was not at work on it.
            began = began.min(oldest.posted.max(lane.done));
            bytes += oldest.bytes;
        }
        if bytes == 0 {
            return;
        }
        lane.backlog -= bytes;
        let kept = if std::mem::take(&mut lane.stale) { 0.0 } else { KEPT };
        lane.bytes = lane.bytes * kept + bytes as f64;
        lane.nanoseconds = lane.nanoseconds * kept + now.saturating_sub(began).max(1) as f64;
        lane.done = now;
    }

    /// Nothing goes by this rail any more.
    pub(super) fn leave_out(&mut self, rail: usize) {
        let lane = &mut self.lanes[rail];
        lane.out = true;
        lane.waiting.clear();
        lane.backlog = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rails in virtual time: each works on one message after the other, at its own rate in bytes a nanosecond.
    struct Link {
        stripes: Stripes,
        rates: Vec<f64>,
        /// When each rail is free, and what it has been given: (number, end).
        given: Vec<VecDeque<(u64, u64)>>,
        free: Vec<u64>,
        bytes: Vec<u64>,
        now: u64,
        posted: u64,
    }

    impl Link {
        fn new(rates: &[f64]) -> Self {
            let rails = rates.len();
            Self {
                stripes: Stripes::new(rails, 8),
                rates: rates.to_vec(),
                given: vec![VecDeque::new(); rails],
                free: vec![0; rails],
                bytes: vec![0; rails],
                now: 0,
                posted: 0,
            }
        }

        fn send(&mut self, bytes: usize) -> usize {
            let rail = self.stripes.choose(bytes);
            self.posted += 1;
            let end = self.free[rail].max(self.now) + (bytes as f64 / self.rates[rail]) as u64;
            self.free[rail] = end;
            self.given[rail].push_back((self.posted, end));
            self.stripes.posted(rail, self.posted, bytes, self.now);
            self.bytes[rail] += bytes as u64;
            rail
        }

        /// To the next completion.
        fn wait(&mut self) {
            let next = self.given.iter().filter_map(|given| given.front()).map(|(_, end)| *end).min();
            self.now = next.expect("something is under way");
            for rail in 0..self.rates.len() {
                let mut seen = None;
                while let Some((id, _)) =
                    self.given[rail].front().copied().filter(|(_, end)| *end <= self.now)
                {
                    self.given[rail].pop_front();
                    seen = Some(id);
                }
                if let Some(id) = seen {
                    self.stripes.completed(rail, id, self.now);
                }
            }
        }

        fn under_way(&self) -> usize {
            self.given.iter().map(VecDeque::len).sum()
        }

        /// `messages` of them, eight under way at a time.
        fn run(&mut self, messages: usize, bytes: usize) {
            for _ in 0..messages {
                while self.under_way() >= 8 {
                    self.wait();
                }
                self.send(bytes);
            }
        }
    }

    #[test]
    fn rails_of_100_and_25_gigabits_share_as_four_to_one() {
        let mut link = Link::new(&[12.5, 3.125]);
        link.run(2000, 128 * 1024);
        let share = link.bytes[0] as f64 / link.bytes[1] as f64;
        assert!((3.4..4.6).contains(&share), "{share}");
    }

    #[test]
    fn one_large_message_goes_by_the_faster_rail_and_both_are_used_for_many() {
        let mut link = Link::new(&[3.0, 12.0]);
        link.run(200, 128 * 1024);
        while link.under_way() > 0 {
            link.wait();
        }
        assert_eq!(link.send(128 * 1024), 1);
        assert!(link.bytes[0] > 0);
    }

    #[test]
    fn a_rail_that_was_slow_is_tried_again_and_used_when_it_is_fast() {
        let mut link = Link::new(&[12.0, 0.2]);
        link.run(1000, 128 * 1024);
        let slow = link.bytes[1];
        assert!(slow < link.bytes[0] / 20, "{:?}", link.bytes);
        link.rates[1] = 12.0;
        link.run(4000, 128 * 1024);
        assert!(link.bytes[1] - slow > link.bytes[0] / 3, "{:?}", link.bytes);
    }

    proptest! {
        /// Whatever the rates and sizes: all is done in little more time than rails that share it exactly would need.
        #[test]
        fn the_rails_are_done_together(
            rates in proptest::collection::vec(1.0f64..16.0, 1..5),
            sizes in proptest::collection::vec(STRIPED_BYTES..(1 << 20), 400..500),
        ) {
            let mut link = Link::new(&rates);
            for bytes in &sizes {
                while link.under_way() >= 8 {
                    link.wait();
                }
                link.send(*bytes);
            }
            while link.under_way() > 0 {
                link.wait();
            }
            let ideal = sizes.iter().sum::<usize>() as f64 / rates.iter().sum::<f64>();
            prop_assert!((link.now as f64) < ideal * 1.5, "{} of {}", link.now, ideal);
        }

        /// Nothing goes by a rail that is out, whenever that happens, and small messages go by the first of the others.
        #[test]
        fn a_rail_that_is_out_gets_nothing(before in 0usize..50, rails in 2usize..5, out in 0usize..4) {
            let out = out % rails;
            let mut link = Link::new(&vec![5.0; rails]);
            link.run(before, STRIPED_BYTES);
            link.stripes.leave_out(out);
            link.given[out].clear();
            for _ in 0..300 {
                while link.under_way() >= 8 {
                    link.wait();
                }
                prop_assert_ne!(link.send(STRIPED_BYTES), out);
            }
            prop_assert_eq!(link.stripes.first(), usize::from(out == 0));
            prop_assert!(!link.stripes.awaits(out, u64::MAX));
        }
    }
}
