//! Everything that can go wrong between ranks. Errors are `Clone`, because a poisoned communicator answers every
//! later call with the same one.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

/// An error of the fabric: configuration, bootstrap, links, peers.
#[derive(Debug, Clone, Error, Diagnostic)]
pub enum FabricError {
    /// A transport name that does not exist.
    #[error("unknown transport `{given}`")]
    #[diagnostic(code("HALO-E0201"), help("use one of: auto, rdma, tcp, shm"))]
    UnknownTransport {
        /// What was given.
        given: String,
    },

    /// A configuration value out of range.
    #[error("invalid {what}: {given}")]
    #[diagnostic(code("HALO-E0202"), help("{what} takes {expected}"))]
    InvalidConfig {
        /// Which value.
        what: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        expected: &'static str,
    },

    /// An environment variable that cannot be read.
    #[error("the environment variable {name} has a value that cannot be read: `{given}`")]
    #[diagnostic(code("HALO-E0203"), help("{name}: {meaning}"))]
    BadVariable {
        /// Its name.
        name: &'static str,
        /// Its value.
        given: String,
        /// What it is for.
        meaning: &'static str,
    },

    /// Rank 0 cannot listen at the rendezvous.
    #[error("rank 0 cannot listen at the rendezvous {address}: {cause}")]
    #[diagnostic(
        code("HALO-E0204"),
        help("choose a free port and an address of this machine; `ss -ltnp` shows who holds a port")
    )]
    Listen {
        /// Where.
        address: String,
        /// The system's word.
        cause: String,
    },

    /// The rendezvous could not be reached before the deadline.
    #[error("rank {rank} could not reach the rendezvous {address} within {}: {cause}", seconds(.after))]
    #[diagnostic(
        code("HALO-E0205"),
        help(
            "is rank 0 running, is the address right on this host, does a firewall stand between? \
             `curl -v telnet://{address}` tries the way"
        )
    )]
    RendezvousUnreachable {
        /// Who tried.
        rank: usize,
        /// Where.
        address: String,
        /// For how long.
        after: Duration,
        /// The last answer.
        cause: String,
    },

    /// Some ranks never came.
    #[error("rank {rank} waited {} for rank(s) {missing} of world {world}{notes}", seconds(.after))]
    #[diagnostic(
        code("HALO-E0206"),
        help(
            "start the missing rank(s) with the same rendezvous, world size and key; read their own error first"
        )
    )]
    RanksMissing {
        /// Who waited.
        rank: usize,
        /// Who did not come, as a list.
        missing: String,
        /// Of how many.
        world: usize,
        /// How long.
        after: Duration,
        /// What else was seen at the rendezvous, such as refused strangers; empty or starting with `; `.
        notes: String,
    },

    /// Two processes claim one rank.
    #[error("rank {rank} was given twice: {first} and {second}")]
    #[diagnostic(code("HALO-E0207"), help("give every process a rank of its own, 0 to world - 1"))]
    RankTakenTwice {
        /// The rank.
        rank: usize,
        /// Who has it.
        first: String,
        /// Who also wants it.
        second: String,
    },

    /// Two ranks were started with different settings that must be equal.
    #[error(
        "ranks disagree on {what}: rank {rank} ({host}) has {theirs}, rank {our_rank} ({our_host}) has {ours}"
    )]
    #[diagnostic(code("HALO-E0208"), help("start every rank with the same {what}"))]
    Disagreement {
        /// Which setting.
        what: String,
        /// Who differs.
        rank: usize,
        /// Where that is.
        host: String,
        /// Its value.
        theirs: String,
        /// This rank.
        our_rank: usize,
        /// This host.
        our_host: String,
        /// This rank's value.
        ours: String,
    },

    /// The other side speaks another version of the protocol.
    #[error("{peer} speaks protocol version {theirs}, this rank speaks {ours}")]
    #[diagnostic(code("HALO-E0209"), help("install the same halo release on every host"))]
    ProtocolVersion {
        /// Who.
        peer: String,
        /// Its version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },

    /// What arrived is not a halo handshake, or stops in the middle of one.
    #[error("the handshake with {peer} failed: {cause}")]
    #[diagnostic(
        code("HALO-E0210"),
        help(
            "is something else listening on that port, or did the other rank end? Its own output says more"
        )
    )]
    Handshake {
        /// With whom.
        peer: String,
        /// How.
        cause: String,
    },

    /// The other side could not prove the key.
    #[error("{peer} does not have the same key as this rank")]
    #[diagnostic(
        code("HALO-E0211"),
        help("give every rank the same secret, in HALO_KEY or in a file named by HALO_KEY_FILE")
    )]
    WrongKey {
        /// Who.
        peer: String,
    },

    /// A rendezvous or a rank that other machines can reach, without a key.
    #[error("{place} can be reached from other machines, but no key is set")]
    #[diagnostic(
        code("HALO-E0212"),
        help(
            "set the same secret on every rank, e.g. HALO_KEY=$(openssl rand -hex 32), or use a loopback address"
        )
    )]
    KeyNeeded {
        /// What can be reached, with its address.
        place: String,
    },

    /// A key file that cannot be read or is empty.
    #[error("the key file {path} named by HALO_KEY_FILE cannot be used: {cause}")]
    #[diagnostic(code("HALO-E0213"), help("write the secret into that file, readable by this user alone"))]
    KeyFile {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },

    /// The data address cannot be determined or used.
    #[error("no usable data address: {cause}")]
    #[diagnostic(
        code("HALO-E0214"),
        help(
            "name it with HALO_INTERFACE (such as enp1s0) or HALO_ADDRESS; `ip -brief address` lists what is here"
        )
    )]
    DataAddress {
        /// Why.
        cause: String,
    },

    /// A named transport that this pair of ranks cannot have.
    #[error("transport {transport} was asked for, but ranks {rank} and {peer} cannot use it: {cause}")]
    #[diagnostic(
        code("HALO-E0215"),
        help("remove the cause, or choose transport=auto to let each pair take the best it has")
    )]
    TransportUnavailable {
        /// Which.
        transport: &'static str,
        /// This rank.
        rank: usize,
        /// The other rank.
        peer: usize,
        /// Why not.
        cause: String,
    },

    /// Memory for the arena could not be had.
    #[error("the arena of {bytes} bytes for {world} ranks could not be made: {cause}")]
    #[diagnostic(
        code("HALO-E0216"),
        help(
            "lower HALO_SLOTS or HALO_SLOT_BYTES (on every rank alike), or raise the memory limit of this process or container"
        )
    )]
    ArenaMemory {
        /// How much.
        bytes: usize,
        /// For how many ranks.
        world: usize,
        /// Why.
        cause: String,
    },

    /// A link could not be set up.
    #[error("the {transport} link to rank {peer} ({host}) could not be set up: {cause}")]
    #[diagnostic(
        code("HALO-E0217"),
        help("check the cable and the data addresses of both hosts, then start all ranks again")
    )]
    LinkSetup {
        /// Which transport.
        transport: &'static str,
        /// To whom.
        peer: usize,
        /// Where that is.
        host: String,
        /// Why.
        cause: String,
    },

    /// A link that worked broke.
    #[error("the {transport} link to rank {peer} ({host}) broke: {cause}")]
    #[diagnostic(
        code("HALO-E0218"),
        help(
            "check the cable, the link state of both ports and the other rank's log; then start all ranks again"
        )
    )]
    LinkBroken {
        /// Which transport.
        transport: &'static str,
        /// To whom.
        peer: usize,
        /// Where that is.
        host: String,
        /// Why.
        cause: String,
    },

    /// A peer's process or host is gone.
    #[error("rank {peer} ({host}) is lost: {cause}")]
    #[diagnostic(
        code("HALO-E0219"),
        help(
            "look at that rank's log on {host}: its process ended, or the host or its network is down; then start all ranks again"
        )
    )]
    PeerLost {
        /// Who.
        peer: usize,
        /// Where it was.
        host: String,
        /// How it was noticed.
        cause: String,
    },

    /// A peer closed its communicator in good order while this rank still needs it.
    #[error("rank {peer} ({host}) has closed its communicator, but this rank still waits for it")]
    #[diagnostic(
        code("HALO-E0220"),
        help("every rank must issue the same operations; look for the one that {host} left out")
    )]
    PeerLeft {
        /// Who.
        peer: usize,
        /// Where it was.
        host: String,
    },

    /// Another rank gave up and said why.
    #[error("rank {peer} ({host}) stopped the communicator: {reason}")]
    #[diagnostic(
        code("HALO-E0221"),
        help("the reason is the other rank's; remove it there and start all ranks again")
    )]
    StoppedByPeer {
        /// Who said it.
        peer: usize,
        /// Where it is.
        host: String,
        /// Its reason, with its own code.
        reason: String,
    },

    /// A message whose header makes no sense.
    #[error("a message from rank {peer} ({host}) is malformed: {cause}")]
    #[diagnostic(
        code("HALO-E0222"),
        help("this is memory corruption or a bug; please report it with both ranks' logs")
    )]
    MalformedMessage {
        /// From whom.
        peer: usize,
        /// Where that is.
        host: String,
        /// What is wrong.
        cause: String,
    },

    /// The store behind the bootstrap failed.
    #[error("the bootstrap store failed at key `{key}`: {cause}")]
    #[diagnostic(
        code("HALO-E0223"),
        help("rank 0 (or the process that serves the store) ended or cannot be reached; its log says why")
    )]
    Store {
        /// Which key.
        key: String,
        /// Why.
        cause: String,
    },

    /// The system refused something that should always work.
    #[error("{call} failed: {cause}")]
    #[diagnostic(
        code("HALO-E0224"),
        help(
            "this is the operating system's answer; limits of this process (ulimit -a) are the usual reason"
        )
    )]
    System {
        /// Which call.
        call: &'static str,
        /// The system's word.
        cause: String,
    },

    /// The RDMA device refused something.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Verbs(#[from] halo_verbs::Error),

    /// A registration of nothing.
    #[error("register: there is nothing to register in {bytes} bytes at address {address:#x}")]
    #[diagnostic(code("HALO-E0226"), help("pass the address and the length of memory that exists"))]
    NothingToRegister {
        /// The address given.
        address: usize,
        /// The length given.
        bytes: usize,
    },

    /// Memory for a shared buffer could not be had.
    #[error("a shared buffer of {bytes} bytes could not be made: {cause}")]
    #[diagnostic(
        code("HALO-E0227"),
        help("allocate less, or raise the memory limit of this process or container")
    )]
    SharedMemory {
        /// How much.
        bytes: usize,
        /// Why.
        cause: String,
    },

    /// A device has no queues for so many slots.
    #[error("{device} does not make the queues for HALO_SLOTS={slots}, {depth} work requests each: {cause}")]
    #[diagnostic(
        code("HALO-E0228"),
        help("lower HALO_SLOTS on every rank, and raise HALO_SLOT_BYTES instead if large messages need it")
    )]
    TooManySlots {
        /// Which device.
        device: String,
        /// The slots per peer.
        slots: usize,
        /// The work requests that each queue must hold for them.
        depth: u32,
        /// What the device allows, or its refusal.
        cause: String,
    },

    /// The path to a peer drops what its two ends think it carries.
    #[error("TCP segments of {bytes} bytes do not arrive {direction} rank {peer} ({host}), small ones do")]
    #[diagnostic(
        code("HALO-E0229"),
        help(
            "every interface and switch between the hosts needs the same MTU; `halo-cluster doctor --only mtu,frames` finds \
             the one that differs"
        )
    )]
    SegmentsLost {
        /// What such a segment carries.
        bytes: u16,
        /// "from" or "to".
        direction: &'static str,
        /// Who.
        peer: usize,
        /// Where that is.
        host: String,
    },

    /// A rank closed, and what it had sent was not taken.
    #[error("what was sent to rank(s) {peers} did not arrive there within {:.1} s of closing", .after.as_secs_f64())]
    #[diagnostic(
        code("HALO-E0230"),
        help("a rank that is sent something has to receive it: look for what that one does instead")
    )]
    Undelivered {
        /// Ranks and hosts.
        peers: String,
        /// How long this rank waited.
        after: Duration,
    },

    /// Somebody on this rank wanted no more of it while it met the others: see `Config::interrupt`.
    #[error("meeting the other ranks was interrupted")]
    #[diagnostic(code("HALO-E0231"), help("the ranks that had come are told; start all of them again"))]
    Interrupted,

    /// The communicator was closed.
    #[error("the communicator is closed")]
    #[diagnostic(code("HALO-E0225"), help("create a new communicator"))]
    Closed,
}

impl FabricError {
    /// A failed system call.
    pub(crate) fn system(call: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::System { call, cause: cause.to_string() }
    }

    /// The stable code, such as `HALO-E0219`.
    pub fn stable_code(&self) -> String {
        Diagnostic::code(self).map(|code| code.to_string()).unwrap_or_default()
    }

    /// The code and the message in one line, as peers are told.
    pub fn one_line(&self) -> String {
        format!("{}: {self}", self.stable_code())
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
