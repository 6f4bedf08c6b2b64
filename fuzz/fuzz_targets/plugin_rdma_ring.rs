//! A receiver's writes into a sender's memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halo::plugin::fuzzing::rdma_ring(bytes));
