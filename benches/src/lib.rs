//! halo beside its peers: what `make bench-peers` runs. See benches/README.md for the method.
//!
//! Every driver (halo's, MPI's, Gloo's, the floor's) is a program that takes sizes with iterations and prints one line
//! of JSON per size; [`rounds`] runs them in turn, [`results`] keeps what they said, [`table`] and [`plot`] show it
//! beside [`targets`].

pub mod allocations;
pub mod buffer;
pub mod calls;
pub mod driver;
pub mod error;
pub mod exchange;
pub mod fit;
pub mod floor;
pub mod kernel;
pub mod line;
pub mod peers;
pub mod plot;
pub mod plugin;
pub mod results;
pub mod rig;
pub mod rounds;
pub mod setup;
pub mod table;
pub mod targets;
