//! The collectives.
