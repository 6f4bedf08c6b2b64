//! How many messages may be under way between two ranks, as one of them counts: a message may be sent while its slot is
//! known to have been given back. Every count only grows, so an old word that comes late changes nothing.

/// One rank's counts towards one peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    slots: u64,
    /// Messages sent to the peer.
    sent: u64,
    /// How many of them it has told to have consumed.
    acknowledged: u64,
    /// Its messages consumed here.
    consumed: u64,
    /// How many of those it has been told of.
    told: u64,
}

impl Window {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: slots as u64, sent: 0, acknowledged: 0, consumed: 0, told: 0 }
    }

    /// Whether the slot of the next message is free.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.sent - self.acknowledged < self.slots
    }

    /// Takes a slot. The number of the message, from 1, and the credit that it carries for free.
    ///
    /// # Panics
    /// Without room: the message would overwrite one that has not been consumed.
    #[inline]
    pub(crate) fn send(&mut self) -> (u64, u64) {
        assert!(self.has_room(), "sent without room");
        self.sent += 1;
        self.told = self.consumed;
        (self.sent, self.consumed)
    }

    /// The peer has consumed this many messages; it may have said more before.
    #[inline]
    pub(crate) fn learn(&mut self, consumed: u64) {
        self.acknowledged = self.acknowledged.max(consumed.min(self.sent));
    }

    /// How many of this side's messages the peer is known to have consumed, if it has told so much now.
    #[inline]
    pub(crate) fn acknowledged(&self, told: u64) -> u64 {
        self.acknowledged.max(told.min(self.sent))
    }

    /// Whether this credit would be news.
    #[inline]
    pub(crate) fn is_news(&self, consumed: u64) -> bool {
        consumed > self.acknowledged
    }

    /// The number of the message that was sent last.
    #[inline]
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The peer's messages consumed here.
    #[inline]
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The number of the peer's message that is consumed next.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.consumed + 1
    }

    /// The numbers of the peer's messages that may lie in slots, unconsumed.
    #[inline]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u64> + use<> {
        self.consumed + 1..=self.consumed + self.slots
    }

    /// Gives back the slot of the next message. Messages the other way carry credit for free; only one-sided traffic
    /// needs it told apart, and then this returns it.
    #[inline]
    pub(crate) fn release(&mut self) -> Option<u64> {
        if self.consumed + 1 - self.told < self.slots.div_ceil(2) {
            self.consumed += 1;
            return None;
        }
        Some(self.release_and_tell())
    }

    /// The same, and the sender waits for it: the credit to tell.
    #[inline]
    pub(crate) fn release_and_tell(&mut self) -> u64 {
        self.consumed += 1;
        self.told = self.consumed;
        self.consumed
    }
}
