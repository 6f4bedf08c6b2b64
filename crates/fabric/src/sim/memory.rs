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
    bytes: Bytes,
    /// Where it goes in what the receiver has lent, or else in its slot.
    place: Option<(Tag, usize)>,
}

/// Where the bytes of a payload are.
#[derive(Debug)]
pub(super) enum Bytes {
    /// Under way, or in the slot.
    Copied(Vec<u8>),
    /// With the sender, to be read when they arrive.
    InPlace(Run),
    /// With the sender, to be read by the receiver until it releases the message.
    Referred(Run),
}

impl Bytes {
    pub(super) fn of(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            // SAFETY: as in `Run::read`, until the message is released.
            Self::InPlace(run) | Self::Referred(run) => unsafe {
                std::slice::from_raw_parts(run.start.as_ptr(), run.bytes)
            },
        }
    }
}

impl Payload {
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Self { bytes: Bytes::Copied(bytes.to_vec()), place: None }
    }

    pub(super) fn in_place(bytes: &[u8], place: Option<(Tag, usize)>) -> Self {
        Self { bytes: Bytes::InPlace(Run::of(bytes)), place }
    }

    pub(super) fn referred(bytes: &[u8]) -> Self {
        Self { bytes: Bytes::Referred(Run::of(bytes)), place: None }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.of().len()
    }

    /// Whether the sender must leave it alone for a while.
    pub(super) fn is_with_the_sender(&self) -> bool {
        !matches!(self.bytes, Bytes::Copied(_))
    }

    /// Whether it is the receiver who reads it.
    pub(super) fn is_referred(&self) -> bool {
        matches!(self.bytes, Bytes::Referred(_))
    }

    /// Puts the payload where it belongs: what then lies in the slot, or how many bytes were placed.
    pub(super) fn arrive(self, lent: Option<&Loan>) -> (Bytes, Option<usize>) {
        let bytes = match self.bytes {
            Bytes::InPlace(run) => run.read(),
            Bytes::Copied(_) | Bytes::Referred(_) => return (self.bytes, None),
        };
        let Some((tag, place)) = self.place else { return (Bytes::Copied(bytes), None) };
        let loan = lent.filter(|loan| loan.tag == tag).expect("written to what is not lent");
        loan.take(place, &bytes);
        (Bytes::Copied(Vec::new()), Some(bytes.len()))
    }
}
