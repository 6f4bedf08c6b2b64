//! Machines that `halo-cluster` sets up, for tests that really do it.
//!
//! [`Vm`]: a virtual machine with real systemd, NetworkManager, firewalld, apt and grub tools.
//!
//! [`Site`]: namespace hosts whose /etc, /var/lib and /usr/local/bin are their own, dressed as Fedora by doubles of its
//! tools (`doubles/`), which record how they are called.

mod site;
mod vm;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use site::{Ran, Site};
pub use vm::Vm;

/// The workspace.
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("this crate lies in the workspace")
}

/// halo-cluster, built from this checkout.
pub fn halo_cluster() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "halo-cluster"]).status();
    assert!(built.is_ok_and(|status| status.success()), "halo-cluster does not build");
    // target/debug/deps/this-test
    let here = std::env::current_exe().expect("a running test has a path");
    here.ancestors().nth(2).expect("tests lie in deps/").join("halo-cluster")
}
