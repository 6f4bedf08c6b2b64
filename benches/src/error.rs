//! What can keep a comparison from being made.

use miette::Diagnostic;

/// An error of `bench-peers`.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// A peer's program is not there.
    #[error("the driver of {peer} is not there: {path}")]
    #[diagnostic(
        code("HALO-E0530"),
        help("`make bench-peers` installs every peer and builds its driver; run that")
    )]
    Missing {
        /// Which peer.
        peer: String,
        /// What was looked for.
        path: String,
    },

    /// A driver ended with an error.
    #[error("{peer} failed over {place}: {status}\n{output}")]
    #[diagnostic(
        code("HALO-E0531"),
        help("its own words are above; a peer that cannot run here is left out with --without")
    )]
    Failed {
        /// Which peer.
        peer: String,
        /// Where it was to run.
        place: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },

    /// A driver did not end.
    #[error("{peer} did not end over {place} within {seconds} s; it was stopped")]
    #[diagnostic(
        code("HALO-E0532"),
        help("is the machine busy? A peer that hangs here is left out with --without")
    )]
    TimedOut {
        /// Which peer.
        peer: String,
        /// Where it ran.
        place: String,
        /// How long it was given.
        seconds: u64,
    },

    /// A driver left out what it was asked for.
    #[error("{peer} over {place} did not measure {bytes} bytes\n{output}")]
    #[diagnostic(
        code("HALO-E0533"),
        help("its output is above; please report it if the driver is halo's own")
    )]
    Incomplete {
        /// Which peer.
        peer: String,
        /// Where it ran.
        place: String,
        /// The size that is missing.
        bytes: usize,
        /// What it printed.
        output: String,
    },

    /// A result cannot be kept.
    #[error("{path} cannot be written: {cause}")]
    #[diagnostic(code("HALO-E0534"), help("--out must name a folder that this user may write"))]
    Unwritable {
        /// Which file.
        path: String,
        /// The system's word.
        cause: String,
    },

    /// The system refused something.
    #[error("{what}: {cause}")]
    #[diagnostic(
        code("HALO-E0535"),
        help("this is the operating system's answer; limits of this user (ulimit -a) are the usual reason")
    )]
    System {
        /// What was tried.
        what: String,
        /// The system's word.
        cause: String,
    },

    /// Not enough to fit the model to.
    #[error("halo was measured at {given} sizes over {place}: the model cannot be fitted to so few")]
    #[diagnostic(
        code("HALO-E0536"),
        help("three sizes are the least: measure this place in the same run, without a small --max")
    )]
    TooFewSizes {
        /// Where.
        place: String,
        /// How many sizes.
        given: usize,
    },

    /// Earlier results that cannot be used.
    #[error("{path} holds no results of bench-peers: {cause}")]
    #[diagnostic(
        code("HALO-E0537"),
        help("--from names a peers.json that this release of bench-peers has written")
    )]
    Unreadable {
        /// Which file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },

    /// The rig of virtual machines.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rig(#[from] halo_soft_roce::Error),

    /// A communicator.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Collective(#[from] halo_ccl::Error),
}

impl Error {
    /// A refusal of the system.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        |error| Self::System { what: what.into(), cause: error.to_string() }
    }
}
