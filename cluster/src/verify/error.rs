//! What keeps `verify` from measuring at all. A path that cannot be measured is a row, not an error.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// An error of `verify`.
#[derive(Debug, Error, Diagnostic)]
pub enum VerifyError {
    #[error(
        "a launch is running (process {pid}); its traffic would spoil the measurement, and the measurement its requests"
    )]
    #[diagnostic(code("HALO-E0760"), help("halo-cluster stop, then verify; or --anyway"))]
    Busy { pid: u32 },

    #[error("node {node} has no halo-perf {version}, and there is none beside halo-cluster to send")]
    #[diagnostic(code("HALO-E0761"), help("build it (make build), or name one: --halo-perf FILE"))]
    NoPerf { node: String, version: String },

    #[error("there is one node; a path needs two")]
    #[diagnostic(code("HALO-E0762"), help("add [[nodes]] to the configuration"))]
    OneNode,

    #[error("nodes {a} and {b} share no network")]
    #[diagnostic(
        code("HALO-E0763"),
        help("halo-cluster doctor shows their addresses; give them data addresses in one network")
    )]
    NoPath { a: String, b: String },

    #[error("the measurement {} cannot be compared with: {cause}", path.display())]
    #[diagnostic(code("HALO-E0764"), help("name a file that `verify` saved: --compare FILE"))]
    Load { path: PathBuf, cause: String },

    #[error("there is no earlier measurement to compare with")]
    #[diagnostic(code("HALO-E0765"), help("run `halo-cluster verify` twice, or name a file: --compare FILE"))]
    NothingEarlier,

    #[error("the measurement cannot be kept in {}", path.display())]
    #[diagnostic(code("HALO-E0766"), help("it must be writable; XDG_STATE_HOME chooses another place"))]
    Save { path: PathBuf, source: std::io::Error },

    #[error("halo-perf ({}) cannot be sent to node {node}: {cause}", path.display())]
    #[diagnostic(code("HALO-E0767"), help("is it readable here, and is there room in /tmp there?"))]
    Send { node: String, path: PathBuf, cause: String },

    #[error("the verification failed: {failed} of {rows} rows")]
    #[diagnostic(
        code("HALO-E0768"),
        help("the reason stands beside each; halo-cluster doctor looks at what the paths need")
    )]
    Failed { failed: usize, rows: usize },
}
