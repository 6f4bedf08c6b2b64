//! The table of the net plugin's tuner: which algorithm, protocol and number of channels RCCL or NCCL should use, by
//! collective, ranks, size and link. The plugin reads it; `halo-perf tune-plugin` measures a link and writes one.

mod model;
mod table;

pub use model::{HANDSHAKE_US, LinkCost};
pub use table::{Algorithm, Collective, Link, Protocol, Rule, Table, TableError};
