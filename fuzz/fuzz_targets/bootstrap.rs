//! The preamble, the proof and the frames by which ranks meet.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo_fabric::fuzzing::bootstrap(bytes));
