//! The proof and the frames that set a connection of the plugin up.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo::plugin::fuzzing::set_up(bytes));
