//! Errors of the collectives.

use std::time::Duration;

use halo_fabric::FabricError;
use miette::Diagnostic;
use thiserror::Error;

/// What a collective answers when it cannot be done.
#[derive(Debug, Clone, Error, Diagnostic)]
pub enum Error {
    /// The fabric failed: bootstrap, a link, a peer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fabric(#[from] FabricError),

    /// Two ranks are in different operations, or in the same one with other sizes or types.
    #[error(
        "ranks are not in the same operation: rank {rank} is in {ours}, rank {peer} ({host}) is in {theirs}"
    )]
    #[diagnostic(
        code("HALO-E0301"),
        help("every rank must issue the same operations in the same order, with the same type and count")
    )]
    Mismatch {
        /// This rank.
        rank: usize,
        /// What it is doing.
        ours: String,
        /// The other rank.
        peer: usize,
        /// Where that is.
        host: String,
        /// What it is doing.
        theirs: String,
    },

    /// The deadline passed.
    #[error("{operation} on rank {rank} waited {:.1} s for rank(s) {waiting_for}", .after.as_secs_f64())]
    #[diagnostic(
        code("HALO-E0302"),
        help(
            "those ranks are alive but did not take part: look for an operation they left out or are stuck before, or what they wait in themselves; a longer deadline is set by HALO_TIMEOUT"
        )
    )]
    Timeout {
        /// Which operation, with its size.
        operation: String,
        /// This rank.
        rank: usize,
        /// The ranks (and hosts, and links) that did not come, with what each waits in itself.
        waiting_for: String,
        /// How long.
        after: Duration,
    },

    /// Somebody on this rank wants no more of it: see `Config::interrupt`.
    #[error("{operation} on rank {rank} was interrupted")]
    #[diagnostic(code("HALO-E0312"), help("the other ranks are told; connect all of them again to go on"))]
    Interrupted {
        /// Which operation, with its size.
        operation: String,
        /// This rank.
        rank: usize,
    },

    /// A buffer does not fit the operation.
    #[error("{operation}: the {buffer} buffer has {given} bytes, {expected}")]
    #[diagnostic(
        code("HALO-E0303"),
        help("pass buffers whose sizes follow the operation's rule on every rank")
    )]
    BufferSize {
        /// Which operation.
        operation: &'static str,
        /// Which buffer.
        buffer: &'static str,
        /// Its size.
        given: usize,
        /// The rule, as the rest of the sentence.
        expected: String,
    },

    /// A reduction that the type does not have.
    #[error("{operation}: there is no {op} of {dtype}")]
    #[diagnostic(
        code("HALO-E0304"),
        help("truth values have no average: take sum or max (or), prod or min (and), or average numbers")
    )]
    NoArithmetic {
        /// Which operation.
        operation: &'static str,
        /// The reduction.
        op: &'static str,
        /// The type.
        dtype: &'static str,
    },

    /// A rank that does not exist, or that is this one where a peer is needed.
    #[error("{operation}: rank {given} is not {expected}")]
    #[diagnostic(code("HALO-E0305"), help("ranks are 0 to world - 1"))]
    BadRank {
        /// Which operation.
        operation: &'static str,
        /// What was given.
        given: usize,
        /// What it should have been.
        expected: String,
    },

    /// A name that does not exist.
    #[error("unknown {what} `{given}`")]
    #[diagnostic(code("HALO-E0306"), help("use one of: {known}"))]
    UnknownName {
        /// Of what.
        what: &'static str,
        /// What was given.
        given: String,
        /// What exists.
        known: String,
    },

    /// A part of the communicator could not begin to meet.
    #[error("split: rank {leader}, the first of color {color}, could not open a rendezvous: {cause}")]
    #[diagnostic(
        code("HALO-E0308"),
        help(
            "the ranks of one color meet at an address of their first rank; look at its host's network and limits"
        )
    )]
    Split {
        /// The rank that failed.
        leader: usize,
        /// Its color.
        color: u32,
        /// Why.
        cause: String,
    },

    /// The file that `HALO_PLANS` names is no plan table.
    #[error("the plan table {path} cannot be used: {cause}")]
    #[diagnostic(
        code("HALO-E0309"),
        help(
            "correct it, or move it away and write one with `halo-perf tune`; without HALO_PLANS the built-in table is used"
        )
    )]
    PlanTable {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },

    /// Another rank could not allocate its part of a shared buffer.
    #[error("rank {rank} could not allocate a shared buffer of {bytes} bytes")]
    #[diagnostic(
        code("HALO-E0313"),
        help("that rank's own error says why; nothing was allocated here either")
    )]
    NotAllocated {
        /// Which rank.
        rank: usize,
        /// How much this rank asked for.
        bytes: usize,
    },

    /// The statistics file cannot be written.
    #[error("the statistics file {path} cannot be written: {cause}")]
    #[diagnostic(
        code("HALO-E0307"),
        help("HALO_STATS_FILE must name a file in a folder that exists and that this user may write")
    )]
    StatisticsFile {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },
}

impl Error {
    /// The stable code, such as `HALO-E0301`.
    pub fn stable_code(&self) -> String {
        Diagnostic::code(self).map(|code| code.to_string()).unwrap_or_default()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Diagnostic::help(self).map(|help| help.to_string())
    }

    /// The peer that is lost, left, or broke its link, if this error is about one.
    pub fn peer(&self) -> Option<usize> {
        match self {
            Self::Fabric(
                FabricError::PeerLost { peer, .. }
                | FabricError::PeerLeft { peer, .. }
                | FabricError::LinkBroken { peer, .. },
            )
            | Self::Mismatch { peer, .. } => Some(*peer),
            _ => None,
        }
    }

    /// Whether every later operation of the communicator must fail too. A refused argument harms nothing: no rank
    /// has heard of the operation yet.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Fabric(_) | Self::Mismatch { .. } | Self::Timeout { .. } | Self::Interrupted { .. }
        )
    }
}
