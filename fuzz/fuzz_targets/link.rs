//! A TCP link between ranks, and a message in an arena.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo_fabric::fuzzing::link(bytes));
