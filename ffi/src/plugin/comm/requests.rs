//! The requests of one connection.

use crate::plugin::device::MAX_RECEIVES;
use crate::plugin::protocol::MAX_POSTED;

/// A complete request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) parts: usize,
    /// Bytes of each part.
    pub(crate) bytes: [u64; MAX_RECEIVES],
}

#[derive(Debug, Clone, Copy)]
struct Request {
    left: usize,
    outcome: Outcome,
}

/// Places for as many requests as the core may have at one time.
#[derive(Debug)]
pub(crate) struct Requests {
    places: Vec<Option<Request>>,
    /// Where the search for a free place begins.
    next: usize,
}

impl Default for Requests {
    fn default() -> Self {
        Self { places: vec![None; MAX_POSTED], next: 0 }
    }
}

impl Requests {
    /// A new request; `None` when all places are taken.
    pub(crate) fn begin(&mut self, parts: usize) -> Option<usize> {
        let free = (0..MAX_POSTED).map(|step| (self.next + step) % MAX_POSTED);
        let place = free.into_iter().find(|place| self.places[*place].is_none())?;
        self.places[place] =
            Some(Request { left: parts, outcome: Outcome { parts, bytes: [0; MAX_RECEIVES] } });
        self.next = place + 1;
        Some(place)
    }

    /// Takes back a request that could not be posted.
    pub(crate) fn cancel(&mut self, place: usize) {
        self.places[place] = None;
    }

    /// Notes that a part is complete.
    pub(crate) fn finish_part(&mut self, place: usize, part: usize, bytes: u64) {
        if let Some(request) = &mut self.places[place] {
            request.left = request.left.saturating_sub(1);
            request.outcome.bytes[part] = bytes;
        }
    }

    /// The outcome of a request that is complete; its place is free afterwards.
    pub(crate) fn take(&mut self, place: usize) -> Option<Outcome> {
        let request = self.places[place].filter(|request| request.left == 0)?;
        self.places[place] = None;
        Some(request.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_when_all_its_parts_are_and_only_once() {
        let mut requests = Requests::default();
        let place = requests.begin(2).unwrap();
        requests.finish_part(place, 1, 5);
        assert_eq!(requests.take(place), None);
        requests.finish_part(place, 0, 0);
        let outcome = requests.take(place).unwrap();
        assert_eq!((outcome.parts, &outcome.bytes[..2]), (2, &[0, 5][..]));
        assert_eq!(requests.take(place), None);
    }

    #[test]
    fn places_run_out_and_come_back() {
        let mut requests = Requests::default();
        let places: Vec<_> = (0..MAX_POSTED).map(|_| requests.begin(1).unwrap()).collect();
        assert_eq!(requests.begin(1), None);
        requests.cancel(places[3]);
        assert_eq!(requests.begin(1), Some(places[3]));
    }
}
