//! Virtual machines with Soft-RoCE: real libibverbs, real RoCE v2 packets, on a machine without an RDMA NIC.
//!
//! QEMU (software emulation) boots a Debian kernel with `rdma_rxe` over this machine's own root file system, read-only
//! with a tmpfs over it; so whatever is built or installed here runs there. One or two machines, `rxe0` on `eth0`,
//! 192.168.100.1 and .2, joined by a virtual cable, or by several ([`Rig::cables`]). Timings in it mean something only as ratios within one boot.
//!
//! ```no_run
//! let outcome = halo_soft_roce::Rig::new().run(&["ibv_devinfo"; 2])?;
//! assert!(outcome.succeeded());
//! # Ok::<(), halo_soft_roce::Error>(())
//! ```

mod error;
mod image;
mod machine;
mod rig;

pub use error::Error;
pub use image::{Kernel, build, kernel};
pub use rig::{Outcome, Rig, VmOutcome};
