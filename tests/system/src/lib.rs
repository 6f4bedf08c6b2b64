//! Machines that `halo-cluster` sets up, for tests that really do it.
//!
//! [`Vm`]: a virtual machine with real systemd, NetworkManager, firewalld, apt and grub tools.
//!
//! [`Site`]: namespace hosts whose /etc, /var/lib and /usr/local/bin are their own, dressed as Fedora by doubles of its
//! tools (`doubles/`), which record how they are called.

mod site;
mod vm;

pub use site::{Ran, Site};
pub use vm::Vm;
