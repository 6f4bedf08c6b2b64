//! Sends and receives with the same tag meet in order.

use std::collections::VecDeque;

use super::{Announcement, MAX_POSTED};

/// How many sends or receives there have been with each tag. Tags are few.
#[derive(Debug, Default)]
pub(crate) struct TagCounters(Vec<(i32, u64)>);

impl TagCounters {
    /// The number that the next one will have.
    pub(crate) fn next(&self, tag: i32) -> u64 {
        self.0.iter().find(|(known, _)| *known == tag).map_or(0, |(_, count)| *count)
    }

    /// Counts one.
    pub(crate) fn advance(&mut self, tag: i32) {
        match self.0.iter_mut().find(|(known, _)| *known == tag) {
            Some((_, count)) => *count += 1,
            None => self.0.push((tag, 1)),
        }
    }
}

/// The sender's knowledge of receives that wait for it.
#[derive(Debug, Default)]
pub(crate) struct Announced(VecDeque<Announcement>);

impl Announced {
    /// Takes note of one, unless its message has gone already.
    pub(crate) fn add(&mut self, told: Announcement, sent: &TagCounters) -> Result<(), String> {
        if told.index < sent.next(told.tag) {
            return Ok(());
        }
        if self.0.len() >= MAX_POSTED {
            return Err(format!("more than {MAX_POSTED} receives were announced"));
        }
        self.0.push_back(told);
        Ok(())
    }

    /// The receive that this send belongs to, if it has been announced.
    pub(crate) fn find(&self, tag: i32, index: u64) -> Option<&Announcement> {
        self.0.iter().find(|told| told.tag == tag && told.index == index)
    }

    /// Forgets a receive whose message goes now.
    pub(crate) fn remove(&mut self, tag: i32, index: u64) {
        self.0.retain(|told| told.tag != tag || told.index != index);
    }
}

/// A receive that waits for its message.
#[derive(Debug, Clone)]
pub(crate) struct Entry<M> {
    pub(crate) tag: i32,
    pub(crate) index: u64,
    /// Where the message goes.
    pub(crate) data: *mut u8,
    pub(crate) room: u64,
    /// The request it belongs to, and which part of it.
    pub(crate) request: usize,
    pub(crate) part: usize,
    /// What keeps the memory registered.
    pub(crate) memory: M,
}

/// The receiver's places for receives that wait.
#[derive(Debug)]
pub(crate) struct Posted<M> {
    places: Vec<Option<Entry<M>>>,
    generations: Vec<u32>,
    /// Places in use, in the order of posting.
    order: Vec<usize>,
}

impl<M> Default for Posted<M> {
    fn default() -> Self {
        let places = (0..MAX_POSTED).map(|_| None).collect();
        Self { places, generations: vec![0; MAX_POSTED], order: Vec::with_capacity(MAX_POSTED) }
    }
}

impl<M> Posted<M> {
    /// How many more can be posted.
    pub(crate) fn room(&self) -> usize {
        MAX_POSTED - self.order.len()
    }

    /// Takes a place for a receive: its number, and the generation of its use. There is room.
    pub(crate) fn insert(&mut self, entry: Entry<M>) -> (usize, u32) {
        let place = self.places.iter().position(Option::is_none).expect("the caller has asked for room");
        self.places[place] = Some(entry);
        self.order.push(place);
        // 24 bits, never 0: it travels beside a size in one word.
        self.generations[place] = self.generations[place] % 0xff_ffff + 1;
        (place, self.generations[place])
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Entry<M>> {
        self.places.get(place)?.as_ref()
    }

    pub(crate) fn generation(&self, place: usize) -> u32 {
        self.generations[place]
    }

    /// The place of the receive that a message belongs to.
    pub(crate) fn find(&self, tag: i32, index: u64) -> Option<usize> {
        let fits = |place: &usize| {
            self.places[*place].as_ref().is_some_and(|entry| entry.tag == tag && entry.index == index)
        };
        self.order.iter().copied().find(fits)
    }

    /// Gives a place back.
    pub(crate) fn remove(&mut self, place: usize) -> Option<Entry<M>> {
        self.order.retain(|used| *used != place);
        self.places.get_mut(place)?.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

// SAFETY: the pointers are the core's buffers; they are used only while the connection's lock is held.
unsafe impl<M: Send> Send for Entry<M> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::protocol::KIND_ANNOUNCE;

    fn entry(tag: i32, index: u64) -> Entry<()> {
        Entry { tag, index, data: std::ptr::null_mut(), room: 8, request: 0, part: 0, memory: () }
    }

    #[test]
    fn places_are_used_again_with_another_generation() {
        let mut posted = Posted::default();
        let (first, generation) = posted.insert(entry(7, 0));
        let (second, _) = posted.insert(entry(7, 1));
        assert_eq!((posted.find(7, 1), posted.find(8, 0)), (Some(second), None));
        assert!(posted.remove(first).is_some() && posted.remove(first).is_none());
        assert_eq!(posted.insert(entry(9, 0)), (first, generation + 1));
        assert_eq!(posted.order, [second, first]);
        assert_eq!(posted.room(), MAX_POSTED - 2);
    }

    #[test]
    fn an_announcement_behind_its_message_is_passed_over() {
        let (mut announced, mut sent) = (Announced::default(), TagCounters::default());
        sent.advance(3);
        let told = |tag, index| Announcement { kind: KIND_ANNOUNCE, tag, index, ..Announcement::credit(0) };
        announced.add(told(3, 0), &sent).unwrap();
        announced.add(told(3, 1), &sent).unwrap();
        announced.add(told(4, 0), &sent).unwrap();
        assert!(
            announced.find(3, 0).is_none()
                && announced.find(3, 1).is_some()
                && announced.find(4, 0).is_some()
        );
        announced.remove(3, 1);
        assert!(announced.find(3, 1).is_none());
    }

    #[test]
    fn a_peer_that_announces_without_end_is_refused() {
        let (mut announced, sent) = (Announced::default(), TagCounters::default());
        let told = |index| Announcement { kind: KIND_ANNOUNCE, index, ..Announcement::credit(0) };
        for index in 0..MAX_POSTED as u64 {
            announced.add(told(index), &sent).unwrap();
        }
        assert!(announced.add(told(999), &sent).is_err());
    }
}
