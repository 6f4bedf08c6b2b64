//! A sender's frames over TCP.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo::plugin::fuzzing::tcp_lane(bytes));
