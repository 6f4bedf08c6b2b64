//! The handle that the core carries from peer to peer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo::plugin::fuzzing::handle(bytes));
