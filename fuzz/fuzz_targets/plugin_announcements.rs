//! What a receiver tells its sender.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo::plugin::fuzzing::announcements(bytes));
