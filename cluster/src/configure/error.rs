//! What can go wrong when nodes are set up.

use miette::Diagnostic;
use thiserror::Error;

/// An error of `configure`.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigureError {
    #[error(
        "interface {interface} of node {node} is the one by which the node is reached; it is not touched"
    )]
    #[diagnostic(
        code("HALO-E0740"),
        help(
            "a mistake there would cut the node off: set `interface` to the data interface, and reach the node over another network"
        )
    )]
    WayIn { node: String, interface: String },

    #[error("root's rights on node {node} are refused to {user}: {cause}")]
    #[diagnostic(
        code("HALO-E0741"),
        help("run it with --ask-sudo-password, or allow {user} sudo without a password there")
    )]
    NoRoot { node: String, user: String, cause: String },

    #[error("NetworkManager does not run on node {node}, so {address} cannot be given to {interface}")]
    #[diagnostic(
        code("HALO-E0742"),
        help(
            "start it (systemctl enable --now NetworkManager), or give the address by the system's own means (netplan, networkd) and run it again: what is right already is left alone"
        )
    )]
    NoNetworkManager { node: String, address: String, interface: String },

    #[error("node {node} has neither grubby nor grub's own tools; its kernel arguments cannot be set")]
    #[diagnostic(
        code("HALO-E0743"),
        help("add them to its boot loader by hand and reboot: {arguments}; then run it again")
    )]
    NoBootLoader { node: String, arguments: String },

    #[error("what was changed on node {node} cannot be taken back: {cause}")]
    #[diagnostic(
        code("HALO-E0744"),
        help("put that right by hand, then run --undo again: it goes on where it stopped")
    )]
    Undo { node: String, cause: String },

    #[error("the step `{step}` failed on node {node}: {cause}")]
    #[diagnostic(
        code("HALO-E0745"),
        help(
            "put that right and run --apply again, which continues; or --undo, which takes back what was done"
        )
    )]
    Step { node: String, step: String, cause: String },

    #[error("the data interface of node {node} is unknown: {cause}")]
    #[diagnostic(
        code("HALO-E0746"),
        help("set `interface` of that node (ip -brief link), or let `halo-cluster init` look")
    )]
    NoInterface { node: String, cause: String },

    #[error("changes are made only after a yes, and there is no terminal to ask at")]
    #[diagnostic(code("HALO-E0747"), help("--yes says it beforehand"))]
    NoTerminal,

    #[error("there is no node `{name}`; there are {present}")]
    #[diagnostic(code("HALO-E0748"), help("--node takes names of the configuration"))]
    NoSuchNode { name: String, present: String },

    #[error("{failed} of {all} nodes could not be set up")]
    #[diagnostic(
        code("HALO-E0749"),
        help("the errors are above; the other nodes are done, and --apply continues where it stopped")
    )]
    Some { failed: usize, all: usize },
}
