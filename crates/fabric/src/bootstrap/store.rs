//! The one thing bootstrap needs from the outside: a place where every rank leaves a few small values for the
//! others. Rank 0's rendezvous serves it over TCP; a Python program may serve it from the store it already has.

use std::time::Instant;

use thiserror::Error;

/// A key-value store shared by all ranks. Keys are written once.
pub trait Store: Send + Sync {
    /// Leaves `value` under `key`.
    ///
    /// # Errors
    /// [`StoreError::Taken`] where the store notices that the key has another value, or a failure of the store.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Waits until `key` exists and returns its value.
    ///
    /// # Errors
    /// [`StoreError::Absent`] when the deadline passes first, or a failure of the store.
    fn get(&self, key: &str, deadline: Instant) -> Result<Vec<u8>, StoreError>;
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The key has a value already, this one.
    #[error("the key already has a value")]
    Taken(Vec<u8>),
    /// The deadline passed before anybody wrote the key.
    #[error("nobody wrote the key before the deadline")]
    Absent,
    /// The store cannot be reached or broke.
    #[error("{0}")]
    Failed(String),
}
