//! What a rank says on its control connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo_fabric::fuzzing::control(bytes));
