//! What can go wrong when hosts are made.

use miette::Diagnostic;
use thiserror::Error;

/// An error of the host rig.
#[derive(Debug, Error, Diagnostic)]
pub enum HostsError {
    /// Namespaces and veth links need root.
    #[error("making network namespaces needs root")]
    #[diagnostic(code("HALO-E0690"), help("run it as root, e.g. with sudo"))]
    NotRoot,

    /// A tool of the system is not installed.
    #[error("the program `{tool}` is not installed")]
    #[diagnostic(
        code("HALO-E0691"),
        help(
            "Debian/Ubuntu: apt-get install iproute2 openssh-server openssh-client util-linux procps; \
             Fedora: dnf install iproute openssh-server openssh-clients util-linux procps-ng"
        )
    )]
    MissingTool {
        /// Its name.
        tool: &'static str,
    },

    /// A number of hosts that cannot be had.
    #[error("{count} hosts cannot be made")]
    #[diagnostic(code("HALO-E0692"), help("ask for 1 to {} hosts", crate::MAX_HOSTS))]
    Count {
        /// What was asked for.
        count: usize,
    },

    /// A name that is taken, or cannot be one.
    #[error("hosts cannot be called `{name}`: {cause}")]
    #[diagnostic(code("HALO-E0693"), help("{help}"))]
    Name {
        /// The name.
        name: String,
        /// Why not.
        cause: String,
        /// What to do.
        help: String,
    },

    /// No hosts of that name are up.
    #[error("no hosts called `{name}` are up")]
    #[diagnostic(code("HALO-E0694"), help("start them with `hosts up --prefix {name}`"))]
    NotUp {
        /// The name.
        name: String,
    },

    /// A command could not be started.
    #[error("`{command}` could not be started: {source}")]
    #[diagnostic(code("HALO-E0695"), help("is the program installed and executable?"))]
    Start {
        /// Which.
        command: String,
        /// The system's word.
        source: std::io::Error,
    },

    /// A command of the system failed.
    #[error("`{command}` failed: {output}")]
    #[diagnostic(
        code("HALO-E0696"),
        help(
            "in a container, network and mount namespaces need CAP_SYS_ADMIN and CAP_NET_ADMIN (--privileged)"
        )
    )]
    Command {
        /// Which.
        command: String,
        /// What it printed.
        output: String,
    },

    /// A host did not come up.
    #[error("host {host} did not answer within {seconds} s: {cause}")]
    #[diagnostic(code("HALO-E0697"), help("its sshd wrote to {log}"))]
    NotReady {
        /// Which.
        host: String,
        /// How long was waited.
        seconds: u64,
        /// The last answer.
        cause: String,
        /// Where its log is.
        log: String,
    },

    /// The folder of the records cannot be used.
    #[error("{path}: {source}")]
    #[diagnostic(code("HALO-E0698"), help("the rig keeps its records there; make it writable for root"))]
    Record {
        /// Which file or folder.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
}
