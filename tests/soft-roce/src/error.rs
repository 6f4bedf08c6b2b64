//! Errors of the rig.

use miette::Diagnostic;
use thiserror::Error;

/// Why a rig could not run.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// A program is not installed.
    #[error("the Soft-RoCE rig needs {missing}")]
    #[diagnostic(
        code("HALO-E0701"),
        help(
            "apt-get install qemu-system-x86 util-linux busybox-static cpio kmod xz-utils iproute2 rdma-core ibverbs-providers ibverbs-utils perftest; the rig runs on Debian and Ubuntu"
        )
    )]
    MissingTools {
        /// Which.
        missing: String,
    },

    /// A step of making the kernel and its initramfs failed.
    #[error("{step} failed: {cause}")]
    #[diagnostic(
        code("HALO-E0702"),
        help(
            "kernel packages come through apt-get: is its list current (apt-get update), and is there a network?"
        )
    )]
    Build {
        /// Which.
        step: String,
        /// Why.
        cause: String,
    },

    /// The machines could not be started or watched.
    #[error("{what}: {cause}")]
    #[diagnostic(
        code("HALO-E0703"),
        help(
            "this is the operating system's answer; memory (1 GiB per machine) and disk are the usual reasons"
        )
    )]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        cause: String,
    },
}

impl Error {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, cause: error.to_string() }
    }
}
