//! Tests that hold the documentation and the sources together; see `tests/`.
