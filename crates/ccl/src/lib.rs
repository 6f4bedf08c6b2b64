//! Collectives over the fabric: what two (then more) ranks do together with their buffers.
//!
//! ```no_run
//! use halo_ccl::{Communicator, Config, DType, Input, ReduceOp};
//!
//! # fn main() -> Result<(), halo_ccl::Error> {
//! let config = Config { rendezvous: "127.0.0.1:29510".into(), ..Config::new(0, 2) };
//! let mut communicator = Communicator::connect(&config)?;
//! let mut sum = 1.0f32.to_le_bytes();
//! communicator.all_reduce(Input::InPlace, &mut sum, DType::F32, ReduceOp::Sum)?;
//! # Ok(())
//! # }
//! ```

mod check;
mod communicator;
pub mod definition;
mod dtype;
mod error;
mod operation;
mod plan;
mod reduce;
mod reduce_op;
mod request;
mod statistics;
mod ticks;
mod wait;

pub use communicator::{Communicator, Queue, Ticket};
pub use dtype::DType;
pub use error::Error;
pub use halo_fabric::{
    Config, FabricError, Interrupt, Key, LinkInfo, PROTOCOL_VERSION, Registration, Rounding, SharedBuffer,
    Store, StoreError, Transport, TransportChoice, reserve_port,
};
pub use operation::Kind;
pub use plan::{Algorithm, Costs, Exercise, PlanTable, Rule};
/// The reduction by itself, for benches; not part of the interface.
#[doc(hidden)]
pub use reduce::{Arithmetic, Source, reduce};
pub use reduce_op::ReduceOp;
pub use request::{Input, Request};
pub use statistics::{LinkStatistics, OperationStatistics, RailStatistics, Statistics};
