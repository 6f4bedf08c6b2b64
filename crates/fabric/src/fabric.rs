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
