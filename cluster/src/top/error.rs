//! What can go wrong with `top`. A node that cannot be asked is no error: it is shown as such.

use miette::Diagnostic;
use thiserror::Error;

/// An error of `top`.
#[derive(Debug, Error, Diagnostic)]
pub enum TopError {
    #[error("nothing was launched, so there is nothing to show")]
    #[diagnostic(
        code("HALO-E0770"),
        help("name the machines: halo-cluster top CONFIG, or start something: halo-cluster launch")
    )]
    Nothing,

    #[error("the terminal cannot be drawn on")]
    #[diagnostic(code("HALO-E0771"), help("without a terminal: halo-cluster top --once, or --once --json"))]
    Terminal { source: std::io::Error },
}
