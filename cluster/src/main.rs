//! halo-cluster.
fn main() {}
