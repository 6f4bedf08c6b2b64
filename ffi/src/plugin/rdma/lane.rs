//! One queue pair, with the rail that it is on and the count of what it has to do: a full queue is an answer, not an error,
//! and a receive that was used is given back.

use halo_verbs::{Error, QueuePair, WorkRequest};

use super::layout::RECEIVES_AT_ONCE;

/// Work requests that a queue holds.
pub(super) const DEPTH: u32 = 1024;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) pair: QueuePair,
    /// Which of this side's ports it is on, and which of the peer's.
    pub(super) rail: usize,
    pub(super) their_rail: usize,
    posted: u64,
    completed: u64,
    /// Posted when a completion was last asked for.
    signaled: u64,
    /// Receives that the peer has used and that were not given back yet.
    used: usize,
}

impl Lane {
    pub(super) fn new(pair: QueuePair, rail: usize, their_rail: usize) -> Self {
        Self { pair, rail, their_rail, posted: 0, completed: 0, signaled: 0, used: 0 }
    }

    /// Whether so many more fit.
    pub(super) fn has_room(&self, requests: u64) -> bool {
        self.posted - self.completed + requests <= u64::from(DEPTH)
    }

    /// Posts work whose completion comes with the number that `name` makes of the last one's place in the queue.
    pub(super) fn post<const N: usize>(
        &mut self,
        mut requests: [WorkRequest; N],
        name: impl FnOnce(u64) -> u64,
    ) -> Result<(), Error> {
        self.posted += N as u64;
        self.signaled = self.posted;
        requests[N - 1] = requests[N - 1].signaled(name(self.posted));
        self.pair.post(&requests)
    }

    /// Posts work that nobody waits for; a completion is asked for now and then, to know what the queue still holds.
    pub(super) fn post_quietly<const N: usize>(
        &mut self,
        requests: [WorkRequest; N],
        name: impl FnOnce(u64) -> u64,
    ) -> Result<(), Error> {
        if self.posted + N as u64 - self.signaled >= u64::from(DEPTH) / 4 {
            return self.post(requests, name);
        }
        self.posted += N as u64;
        self.pair.post(&requests)
    }

    /// Notes that the peer has used a receive, which completed with the number `id`, as its successor will.
    pub(super) fn received(&mut self, id: u64) -> Result<(), Error> {
        self.used += 1;
        if self.used < RECEIVES_AT_ONCE {
            return Ok(());
        }
        self.used = 0;
        self.pair.post_receives(RECEIVES_AT_ONCE, id)
    }

    /// Notes that everything up to this place in the queue is complete.
    pub(super) fn complete(&mut self, place: u64) {
        self.completed = self.completed.max(place);
    }
}

/// What a completion is of: its kind, lane, request and place in the queue, in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) lane: usize,
    pub(super) request: usize,
    pub(super) place: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message, or a part of one.
    Part = 0,
    /// What the sides tell each other beside messages.
    Told = 1,
    Flush = 2,
}

const PLACE_BITS: u32 = 44;

impl Name {
    pub(super) fn encode(self) -> u64 {
        let Self { kind, lane, request, place } = self;
        (kind as u64) << 62 | (lane as u64) << 56 | (request as u64) << PLACE_BITS | place
    }

    pub(super) fn decode(number: u64) -> Self {
        let kind = [Kind::Part, Kind::Told, Kind::Flush, Kind::Flush][(number >> 62) as usize];
        Self {
            kind,
            lane: (number >> 56) as usize & 0x3f,
            request: (number >> PLACE_BITS) as usize & 0xfff,
            place: number & ((1 << PLACE_BITS) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for kind in [Kind::Part, Kind::Told, Kind::Flush] {
            let name = Name { kind, lane: 7, request: 255, place: (1 << PLACE_BITS) - 1 };
            assert_eq!(Name::decode(name.encode()), name);
        }
    }
}
