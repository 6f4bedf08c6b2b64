//! What can go wrong with models: the catalogue, the memory, the hub, the copies.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::config_error::ConfigError;

/// An error of `models`.
#[derive(Debug, Error, Diagnostic)]
pub enum ModelsError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),

    #[error("the catalogue {} cannot be read", path.display())]
    #[diagnostic(code("HALO-E0667"), help("is the path right? without --catalogue the built-in one is used"))]
    Catalogue { path: PathBuf, source: std::io::Error },

    #[error("{}: model `{name}`: {message}", path.display())]
    #[diagnostic(code("HALO-E0668"), help("docs/models.md lists every key and what it takes"))]
    Entry { path: PathBuf, name: String, message: String },

    #[error("there is no model `{name}` in the catalogue")]
    #[diagnostic(code("HALO-E0669"), help("{help}"))]
    Unknown { name: String, help: String },

    #[error(
        "{model} does not fit on {ranks} rank(s) with {sequences} sequence(s) of {context} tokens: {reason}"
    )]
    #[diagnostic(code("HALO-E0670"), help("{help}"))]
    DoesNotFit { model: String, ranks: usize, context: u64, sequences: u64, reason: String, help: String },

    #[error("the hub does not give {repository} to node {node}: {cause}")]
    #[diagnostic(
        code("HALO-E0671"),
        help(
            "accept the model's terms on the hub, make a token there, and run this again with HF_TOKEN in the environment ({given})"
        )
    )]
    Token { node: String, repository: String, cause: String, given: &'static str },

    #[error("the hub has no {repository} at revision {revision}: {cause}")]
    #[diagnostic(code("HALO-E0672"), help("check OWNER/NAME and --revision on the hub's page of the model"))]
    Repository { repository: String, revision: String, cause: String },

    #[error("node {node} cannot store the model: {cause}")]
    #[diagnostic(
        code("HALO-E0673"),
        help("make room there, or choose another disk: --into DIR; what has come already is kept")
    )]
    Disk { node: String, cause: String },

    #[error("{repository} could not be fetched by node {node}: {cause}")]
    #[diagnostic(
        code("HALO-E0674"),
        help(
            "run it again when the network is back: it goes on where it was; HF_ENDPOINT names another hub"
        )
    )]
    Network { node: String, repository: String, cause: String },

    #[error("node {node} has no package huggingface_hub: {cause}")]
    #[diagnostic(
        code("HALO-E0675"),
        help("install it there with the same Python: pip install huggingface_hub")
    )]
    NoHub { node: String, cause: String },

    #[error("node {node} could not copy the model from {head}: {cause}")]
    #[diagnostic(
        code("HALO-E0676"),
        help(
            "is the data network up, and open for TCP between the data addresses? run it again: it goes on where it was"
        )
    )]
    Copy { node: String, head: String, cause: String },

    #[error("{message}")]
    #[diagnostic(code("HALO-E0677"), help("{help}"))]
    Argument { message: String, help: String },
}
