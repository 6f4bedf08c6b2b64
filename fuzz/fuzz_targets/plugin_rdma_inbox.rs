//! A sender's writes into a receiver's memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo::plugin::fuzzing::rdma_inbox(bytes));
