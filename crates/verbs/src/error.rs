//! Errors that say which call, on what, and what to do.

use miette::Diagnostic;
use thiserror::Error;

/// What can go wrong between here and the NIC.
#[derive(Debug, Clone, Error, Diagnostic)]
pub enum Error {
    /// libibverbs is not installed.
    #[error("libibverbs cannot be loaded from {path}: {cause}")]
    #[diagnostic(
        code("HALO-E0101"),
        help(
            "install it: `dnf install libibverbs rdma-core` or `apt-get install libibverbs1 ibverbs-providers`; HALO_LIBIBVERBS names another file"
        )
    )]
    LibraryMissing {
        /// What was tried.
        path: String,
        /// The loader's word.
        cause: String,
    },

    /// libibverbs lacks a function.
    #[error("this libibverbs has no {symbol}")]
    #[diagnostic(code("HALO-E0102"), help("install a newer rdma-core on this host"))]
    SymbolMissing {
        /// Which.
        symbol: &'static str,
    },

    /// The host has no RDMA device.
    #[error("this host has no RDMA device")]
    #[diagnostic(
        code("HALO-E0103"),
        help(
            "is the NIC's driver loaded (E810: `modprobe irdma`; `rdma link` lists devices), and is /dev/infiniband passed into the container?"
        )
    )]
    NoDevices,

    /// A device name that does not exist.
    #[error("there is no RDMA device `{given}`; this host has {available}")]
    #[diagnostic(
        code("HALO-E0104"),
        help("HALO_RDMA_DEVICE takes a name of `halo-perf devices`, or name:port")
    )]
    UnknownDevice {
        /// What was given.
        given: String,
        /// What exists.
        available: String,
    },

    /// No port can be used for a data address.
    #[error("no RDMA port has a RoCE v2 GID for {address}: {looked_at}")]
    #[diagnostic(
        code("HALO-E0105"),
        help(
            "give the NIC's interface that IPv4 address and bring it up, or name another interface with HALO_INTERFACE; `halo-perf devices` shows all GIDs"
        )
    )]
    NoGid {
        /// The data address.
        address: String,
        /// Every port and why it was refused.
        looked_at: String,
    },

    /// The device file cannot be opened.
    #[error("{device} cannot be opened: {cause}")]
    #[diagnostic(
        code("HALO-E0106"),
        help(
            "this user needs read and write access to /dev/infiniband/uverbs*: join the group that owns them (often `rdma`), or pass --device /dev/infiniband to the container"
        )
    )]
    Open {
        /// Which device.
        device: String,
        /// The system's word.
        cause: String,
    },

    /// Memory could not be pinned because of the memlock limit.
    #[error("{device} may not pin {bytes} bytes: the memlock limit of this process is {limit}")]
    #[diagnostic(
        code("HALO-E0107"),
        help(
            "raise it: `ulimit -l unlimited`, a line `* - memlock unlimited` in /etc/security/limits.d/, LimitMEMLOCK=infinity in the systemd unit, or --ulimit memlock=-1 for the container"
        )
    )]
    Memlock {
        /// Which device.
        device: String,
        /// How much was asked for.
        bytes: usize,
        /// The limit, in words.
        limit: String,
    },

    /// A call failed.
    #[error("{call} on {device} failed: {cause}")]
    #[diagnostic(
        code("HALO-E0108"),
        help(
            "`dmesg | tail` on this host often says more; is the device's port up and its firmware current?"
        )
    )]
    Call {
        /// Which call, with what was asked for.
        call: String,
        /// On which device.
        device: String,
        /// The system's word.
        cause: String,
    },

    /// A queue pair would not change its state.
    #[error("the queue pair on {device} would not go to {state} ({attributes}): {cause}")]
    #[diagnostic(
        code("HALO-E0109"),
        help(
            "to RTR this usually means that the peer's address cannot be reached from this GID: try `ping -I` from this address to the peer's"
        )
    )]
    Transition {
        /// On which device.
        device: String,
        /// Which state.
        state: &'static str,
        /// What was asked for.
        attributes: String,
        /// The system's word.
        cause: String,
    },

    /// A work request that cannot be posted.
    #[error("a work request of {bytes} bytes at {offset} does not fit {what}")]
    #[diagnostic(code("HALO-E0110"), help("this is a bug in halo; please report it"))]
    OutOfBounds {
        /// Its length.
        bytes: usize,
        /// Its offset.
        offset: usize,
        /// What it must fit.
        what: String,
    },

    /// A completion that reports a failure.
    #[error("a write on {device} failed: {status}")]
    #[diagnostic(
        code("HALO-E0111"),
        help(
            "`transport retry counter exceeded` means that the peer does not answer: its process, its host, the cable or the switch"
        )
    )]
    Completion {
        /// On which device.
        device: String,
        /// The status, in words and as a number.
        status: String,
    },

    /// The device or the kernel has no room for one registration of this size.
    #[error("{call} of {bytes} bytes on {device} failed: {cause}")]
    #[diagnostic(
        code("HALO-E0112"),
        help(
            "the device has no room to register that much at once, or memory is short: register less, or lower HALO_SLOTS or HALO_SLOT_BYTES on every rank"
        )
    )]
    RegionTooLarge {
        /// Which call.
        call: String,
        /// On which device.
        device: String,
        /// How much was asked for.
        bytes: usize,
        /// The system's word.
        cause: String,
    },
}

/// The text of an errno.
pub(crate) fn errno(number: i32) -> String {
    std::io::Error::from_raw_os_error(number).to_string()
}

/// The text of the calling thread's errno.
pub(crate) fn last_errno() -> String {
    std::io::Error::last_os_error().to_string()
}
