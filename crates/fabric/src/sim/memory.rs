//! Payloads of the simulated network: copied when they are sent, or read where they lie when they arrive, which is as late
//! as a NIC may read them; and written to a slot or to what the receiver has lent. What is written there too early or too
//! late ends the simulation with a panic.

use std::ptr::NonNull;

use crate::message::Tag;

/// A run of a rank's own memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    start: NonNull<u8>,
    bytes: usize,
}

impl Run {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { start: NonNull::from(bytes).cast(), bytes: bytes.len() }
    }

    pub(super) fn of_output(bytes: &mut [u8]) -> Self {
        Self { bytes: bytes.len(), start: NonNull::from(bytes).cast() }
    }

    fn read(self) -> Vec<u8> {
        // SAFETY: whoever made the network vouches that what is passed stays until it has been read; all ranks run in one
        // thread, so nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }.to_vec()
    }
}

/// What a rank lends to a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loan {
    pub(super) tag: Tag,
    /// The first of the peer's messages that belongs to the operation.
    pub(super) first: u64,
    pub(super) output: Run,
}

impl Loan {
    /// Writes a payload to its place.
    fn take(&self, place: usize, payload: &[u8]) {
        assert!(place + payload.len() <= self.output.bytes, "written beyond the end of what was lent");
        // SAFETY: in bounds, and lent at this moment, for which whoever made the network vouches as above.
        unsafe {
            let target = self.output.start.as_ptr().add(place);
            std::ptr::copy_nonoverlapping(payload.as_ptr(), target, payload.len());
        }
    }
}

/// A payload under way.
#[derive(Debug)]
pub(super) struct Payload {
    source: Bytes,
    /// Where it goes in what the receiver has lent, or else in its slot.
    place: Option<(Tag, usize)>,
}

#[derive(Debug)]
enum Bytes {
    Copied(Vec<u8>),
    InPlace(Run),
}

impl Payload {
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Self { source: Bytes::Copied(bytes.to_vec()), place: None }
    }

    pub(super) fn in_place(bytes: &[u8], place: Option<(Tag, usize)>) -> Self {
        Self { source: Bytes::InPlace(Run::of(bytes)), place }
    }

    pub(super) fn len(&self) -> usize {
        match &self.source {
            Bytes::Copied(bytes) => bytes.len(),
            Bytes::InPlace(run) => run.bytes,
        }
    }

    /// Whether the sender must leave it alone until it has arrived.
    pub(super) fn is_in_place(&self) -> bool {
        matches!(self.source, Bytes::InPlace(_))
    }

    /// Puts the payload where it belongs: what then lies in the slot, or how many bytes were placed.
    pub(super) fn arrive(self, lent: Option<&Loan>) -> (Vec<u8>, Option<usize>) {
        let bytes = match self.source {
            Bytes::Copied(bytes) => bytes,
            Bytes::InPlace(run) => run.read(),
        };
        let Some((tag, place)) = self.place else { return (bytes, None) };
        let loan = lent.filter(|loan| loan.tag == tag).expect("written to what is not lent");
        loan.take(place, &bytes);
        (Vec::new(), Some(bytes.len()))
    }
}
