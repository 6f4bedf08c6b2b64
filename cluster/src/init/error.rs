//! What can go wrong when a configuration is made.

use std::net::IpAddr;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// An error of `init`.
#[derive(Debug, Error, Diagnostic)]
pub enum InitError {
    #[error("{} exists already", path.display())]
    #[diagnostic(code("HALO-E0750"), help("--force replaces it; or give another name"))]
    Exists { path: PathBuf },

    #[error("nodes and model are not given, and there is no terminal to ask at")]
    #[diagnostic(
        code("HALO-E0751"),
        help(
            "e.g. halo-cluster init --node a=local --node b=me@board-b --model /models/Llama-3.1-8B-Instruct"
        )
    )]
    Missing,

    #[error("the nodes have no link in common{wanted}: {found}")]
    #[diagnostic(
        code("HALO-E0752"),
        help(
            "is the cable in, and the NIC's driver loaded? --node NAME=TARGET,ADDRESS,INTERFACE names an interface; the one by which a node is reached is never taken"
        )
    )]
    NoLink { wanted: String, found: String },

    #[error("there is no room for {count} nodes in {network}")]
    #[diagnostic(
        code("HALO-E0753"),
        help("--network takes a network with enough addresses, e.g. 192.168.100.0/24")
    )]
    NoRoom { count: usize, network: String },

    #[error("the questions were not answered: {cause}")]
    #[diagnostic(
        code("HALO-E0754"),
        help("nothing was written; flags answer them, too: halo-cluster init --help")
    )]
    NotAnswered { cause: String },

    #[error("the configuration {} cannot be written", path.display())]
    #[diagnostic(code("HALO-E0755"), help("is the folder writable, and the disk not full?"))]
    Write { path: PathBuf, source: std::io::Error },

    #[error("{first} and {second} have the same address {address}")]
    #[diagnostic(
        code("HALO-E0759"),
        help(
            "are they one machine? Several ranks on one node are `ranks = N` in the configuration; for two machines --network gives out new addresses"
        )
    )]
    SameAddress { first: String, second: String, address: IpAddr },
}
