//! Everything that can go wrong in the plugin, and what the core is told of it.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use super::abi;

/// An error of the plugin. `Clone`, because a failed connection answers every later call with the same one.
#[derive(Debug, Clone, Error, Diagnostic)]
pub enum PluginError {
    /// An environment variable that cannot be read.
    #[error("the environment variable {name} has a value that cannot be used: `{given}`")]
    #[diagnostic(code("HALO-E0801"), help("{meaning}"))]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        given: String,
        /// What it takes.
        meaning: String,
    },

    /// Nothing to send over.
    #[error("no device can be used: {looked_at}")]
    #[diagnostic(
        code("HALO-E0802"),
        help(
            "bring the NIC's port up with an IPv4 address (`halo-perf devices` shows what is there), or correct HALO_TRANSPORT, HALO_RDMA_DEVICE, HALO_INTERFACE, NCCL_IB_HCA, NCCL_SOCKET_IFNAME"
        )
    )]
    NoDevice {
        /// What there is, and why each was refused.
        looked_at: String,
    },

    /// A device number that does not exist.
    #[error("there is no device {given}; this host has {count}")]
    #[diagnostic(code("HALO-E0803"), help("the core asks for what `devices` counted: please report this"))]
    UnknownDevice {
        /// What was asked for.
        given: i32,
        /// How many there are.
        count: usize,
    },

    /// A handle that no listener of this plugin has made.
    #[error("the handle of the peer cannot be read: {cause}")]
    #[diagnostic(
        code("HALO-E0804"),
        help("every rank must load the same plugin: look for `NET/Plugin` and `halo` in the output of each")
    )]
    Handle {
        /// What is wrong with it.
        cause: String,
    },

    /// The device's address cannot be listened at.
    #[error("{device} cannot listen at {address}: {cause}")]
    #[diagnostic(code("HALO-E0805"), help("has the interface lost its address? `ip address` shows it"))]
    Listen {
        /// Which device.
        device: String,
        /// Where.
        address: String,
        /// The system's word.
        cause: String,
    },

    /// The peer cannot be reached.
    #[error("{peer} cannot be reached from {device}: {cause}")]
    #[diagnostic(
        code("HALO-E0806"),
        help(
            "is the peer's process alive, does `ping -I` between the two addresses work, does a firewall stand between?"
        )
    )]
    Connect {
        /// Who.
        peer: String,
        /// From which device.
        device: String,
        /// The system's word.
        cause: String,
    },

    /// Setting a connection up took too long.
    #[error("{device} waited {:.0} s for {peer}: {stage}", .after.as_secs_f64())]
    #[diagnostic(
        code("HALO-E0807"),
        help(
            "read the other rank's output first; where ranks legitimately start far apart, raise HALO_PLUGIN_TIMEOUT"
        )
    )]
    Deadline {
        /// Whom for.
        peer: String,
        /// Which device.
        device: String,
        /// For how long.
        after: Duration,
        /// What was missing.
        stage: &'static str,
    },

    /// What the peer says is not the protocol.
    #[error("{peer} broke the protocol on {device}: {cause}")]
    #[diagnostic(
        code("HALO-E0808"),
        help("is the same release of the plugin installed on every host? If so, please report this")
    )]
    Protocol {
        /// Who.
        peer: String,
        /// On which device.
        device: String,
        /// What it said.
        cause: String,
    },

    /// The peer has another key.
    #[error("{peer} does not have the same key")]
    #[diagnostic(
        code("HALO-E0809"),
        help("set HALO_KEY or HALO_KEY_FILE to the same secret for every rank, or for none")
    )]
    WrongKey {
        /// Who.
        peer: String,
    },

    /// The peer runs another release.
    #[error("{peer} speaks version {theirs} of the plugin's protocol, this rank speaks {ours}")]
    #[diagnostic(code("HALO-E0810"), help("install the same release of the plugin on every host"))]
    Version {
        /// Who.
        peer: String,
        /// Its version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },

    /// Two devices that have no transport in common, or settings that do not fit.
    #[error("{device} and {peer} do not fit: {cause}")]
    #[diagnostic(
        code("HALO-E0811"),
        help("give every rank the same HALO_TRANSPORT (rdma or tcp) and the same kind of device")
    )]
    Mismatch {
        /// Ours.
        device: String,
        /// Theirs.
        peer: String,
        /// In what they differ.
        cause: String,
    },

    /// The peer is gone.
    #[error("{peer} is lost ({device}): {cause}")]
    #[diagnostic(
        code("HALO-E0812"),
        help(
            "read the peer's output; if its process lives, look at the cable, the switch and the port on both hosts"
        )
    )]
    PeerLost {
        /// Who.
        peer: String,
        /// Through which device.
        device: String,
        /// How that showed.
        cause: String,
    },

    /// This side's device failed.
    #[error("{device} failed on the way to {peer}: {cause}")]
    #[diagnostic(
        code("HALO-E0813"),
        help("`rdma link`, `ip -s link` and `dmesg | tail` on this host say more of the device")
    )]
    Device {
        /// Which.
        device: String,
        /// On the way to whom.
        peer: String,
        /// Its word.
        cause: String,
    },

    /// A message larger than the buffer that awaits it.
    #[error("a message of {bytes} bytes with tag {tag} meets a receive of {room} bytes ({peer}, {device})")]
    #[diagnostic(
        code("HALO-E0814"),
        help(
            "ranks disagree about a collective: are all in the same operation with the same count and type?"
        )
    )]
    Truncation {
        /// Who.
        peer: String,
        /// Through which device.
        device: String,
        /// The message's tag.
        tag: i32,
        /// Its size.
        bytes: u64,
        /// The receive's size.
        room: u64,
    },

    /// Memory that the device does not take.
    #[error("{device} does not take {bytes} bytes of {kind} memory: {cause}")]
    #[diagnostic(
        code("HALO-E0815"),
        help(
            "host memory: raise the memlock limit. GPU memory: see GPU-direct in docs/plugin.md, or leave HALO_PLUGIN_GPU_DIRECT off"
        )
    )]
    Register {
        /// Which device.
        device: String,
        /// How much.
        bytes: usize,
        /// Host or GPU.
        kind: &'static str,
        /// Its word.
        cause: String,
    },

    /// A call that breaks the contract between core and plugin.
    #[error("{call} was called with {what}")]
    #[diagnostic(code("HALO-E0816"), help("this is a bug in the core or in the plugin: please report it"))]
    Argument {
        /// Which call.
        call: &'static str,
        /// With what.
        what: String,
    },

    /// A system call failed.
    #[error("{call} failed: {cause}")]
    #[diagnostic(code("HALO-E0817"), help("this host is short of something, or forbids it: see the cause"))]
    System {
        /// Which.
        call: &'static str,
        /// The system's word.
        cause: String,
    },

    /// A bug in the plugin, stopped at the boundary.
    #[error("{call} met a bug in halo: {what}")]
    #[diagnostic(code("HALO-E0818"), help("please report this line with what led to it"))]
    Panic {
        /// In which call.
        call: &'static str,
        /// What the panic said.
        what: String,
    },

    /// The tuner's table cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    TunerTable(#[from] halo_tuner::TableError),

    /// The shared key cannot be read.
    #[error("the shared key cannot be read: {cause}")]
    #[diagnostic(code("HALO-E0820"), help("HALO_KEY_FILE names a readable file that holds the secret"))]
    Key {
        /// The reason.
        cause: String,
    },

    /// Devices that cannot be used as one.
    #[error("devices {given:?} cannot be used as one: {cause}")]
    #[diagnostic(
        code("HALO-E0821"),
        help(
            "each stays a device of its own, and the core's channels are spread over them; NCCL_NET_MERGE_LEVEL=LOC keeps it from asking, NCCL_NET_FORCE_MERGE names RDMA devices to join"
        )
    )]
    Join {
        /// Their numbers.
        given: Vec<i32>,
        /// Why not.
        cause: String,
    },
}

impl PluginError {
    /// The code that the core understands.
    pub fn result(&self) -> abi::NcclResult {
        match self {
            Self::NoDevice { .. }
            | Self::Listen { .. }
            | Self::Device { .. }
            | Self::Register { .. }
            | Self::System { .. } => abi::SYSTEM_ERROR,
            Self::Panic { .. } => abi::INTERNAL_ERROR,
            Self::UnknownDevice { .. } | Self::Handle { .. } | Self::Argument { .. } => abi::INVALID_ARGUMENT,
            Self::Setting { .. }
            | Self::Mismatch { .. }
            | Self::Truncation { .. }
            | Self::TunerTable(_)
            | Self::Join { .. }
            | Self::Key { .. } => abi::INVALID_USAGE,
            Self::Connect { .. }
            | Self::Deadline { .. }
            | Self::Protocol { .. }
            | Self::WrongKey { .. }
            | Self::Version { .. }
            | Self::PeerLost { .. } => abi::REMOTE_ERROR,
        }
    }

    /// Code, what happened and what to do, in one line for the core's log.
    pub fn one_line(&self) -> String {
        let code = self.code().map(|code| code.to_string()).unwrap_or_default();
        let help = self.help().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{code}: {self}{help}")
    }

    pub(crate) fn system(call: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::System { call, cause: cause.to_string() }
    }
}
