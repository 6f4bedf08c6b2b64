//! What the collectives see: numbered messages between pairs of ranks, sent without waiting, found in one's own
//! memory.

use crate::error::FabricError;
use crate::message::{Message, Tag};

/// Ordered, lossless messages between every pair of ranks. No call waits; each pair and direction has room for a
/// few messages at a time and the receiver decides when their room is given back.
pub trait Fabric {
    /// This rank.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world(&self) -> usize;

    /// The most payload bytes that one message carries; the same on all ranks.
    fn slot_bytes(&self) -> usize;

    /// How many messages have room on their way to one peer; the same on all ranks.
    fn slots(&self) -> usize;

    /// Whether [`Fabric::send`] to `peer` has room now.
    fn can_send(&mut self, peer: usize) -> bool;

    /// Sends a message. The payload may be used again when this returns.
    ///
    /// # Errors
    /// The link to `peer` broke.
    ///
    /// # Panics
    /// Without room (see [`Fabric::can_send`]), or with more than [`Fabric::slot_bytes`].
    fn send(&mut self, peer: usize, tag: Tag, payload: &[u8]) -> Result<(), FabricError>;

    /// As [`Fabric::send`], without the copy where that can be: the payload may be read where it lies until
    /// [`Fabric::unread`] counts it no more, and it goes straight to `place` of what the peer has lent for this
    /// operation, if it has lent anything and `place` is told.
    ///
    /// # Errors
    /// The link to `peer` broke.
    ///
    /// # Panics
    /// As [`Fabric::send`].
    fn pass(
        &mut self,
        peer: usize,
        tag: Tag,
        payload: &[u8],
        place: Option<usize>,
    ) -> Result<(), FabricError>;

    /// As [`Fabric::pass`], and on one host the peer itself may read the payload where it lies, until it has released the
    /// message. So nothing that the peer waits for may depend on the payload's being read.
    ///
    /// # Errors
    /// The link to `peer` broke.
    ///
    /// # Panics
    /// As [`Fabric::send`].
    fn refer(
        &mut self,
        peer: usize,
        tag: Tag,
        payload: &[u8],
        place: Option<usize>,
    ) -> Result<(), FabricError>;

    /// How many of the messages sent to `peer` last must stay as they are: the oldest of them may still be read.
    fn unread(&self, peer: usize) -> u32;

    /// From now until [`Fabric::take_back`] this peer may write its part of the operation `tag` straight to `output`.
    /// Called before any message of the operation is consumed. Whether the peer makes use of it is told by each message.
    ///
    /// # Errors
    /// The link to `peer` broke.
    fn lend(&mut self, peer: usize, tag: Tag, output: &mut [u8]) -> Result<(), FabricError>;

    /// All of this peer's part is here: it writes there no more.
    fn take_back(&mut self, peer: usize);

    /// The oldest message from `peer` that has arrived and was not released.
    ///
    /// # Errors
    /// Its header makes no sense.
    fn head(&self, peer: usize) -> Result<Option<Message<'_>>, FabricError>;

    /// Gives back the room of the message that [`Fabric::head`] returned.
    ///
    /// # Errors
    /// The link to `peer` broke.
    fn release(&mut self, peer: usize) -> Result<(), FabricError>;

    /// Moves what is under way, and answers with the failure that poisoned the communicator, if there is one.
    ///
    /// # Errors
    /// A peer is lost, a link broke, or another rank stopped the communicator.
    fn progress(&mut self) -> Result<(), FabricError>;

    /// For a rank that has found nothing from `peer` in a while: whether anything can still come.
    ///
    /// # Errors
    /// The peer has closed its communicator.
    fn expect(&self, peer: usize) -> Result<(), FabricError>;
}
