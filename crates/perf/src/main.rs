//! halo-perf.
fn main() {}
