//! Errors of the command line, and how any error is shown.

use std::error::Error as _;
use std::fmt::Write;

use miette::Diagnostic;

#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Collective(#[from] halo_ccl::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Verbs(#[from] halo_verbs::Error),

    #[error("there is no size to measure between --min {min} and --max {max}")]
    #[diagnostic(code("HALO-E0401"), help("--max must be at least --min"))]
    NoSizes { min: usize, max: usize },

    #[error("{collective} cannot be measured with {given}")]
    #[diagnostic(code("HALO-E0402"), help("{remedy}"))]
    Unmeasurable { collective: &'static str, given: String, remedy: &'static str },

    #[error("rank {rank} could not be started: {cause}")]
    #[diagnostic(
        code("HALO-E0403"),
        help("this is the operating system's answer; limits of this user (ulimit -a) are the usual reason")
    )]
    Spawn { rank: usize, cause: String },

    #[error("rank {rank} was ended by signal {signal}")]
    #[diagnostic(
        code("HALO-E0404"),
        help(
            "signal 9 is often the system running out of memory: `dmesg | tail` tells; lower --max or --ranks"
        )
    )]
    Killed { rank: usize, signal: i32 },

    #[error("the result file {path} cannot be written: {cause}")]
    #[diagnostic(code("HALO-E0405"), help("name a file in a folder that exists and that you may write"))]
    ResultFile { path: String, cause: String },

    #[error("interrupted")]
    #[diagnostic(code("HALO-E0406"), help("all ranks were stopped"))]
    Interrupted,

    #[error("{wrong} of the compared elements are wrong")]
    #[diagnostic(
        code("HALO-E0407"),
        help("this must never happen: please report it with the command and both hosts' hardware")
    )]
    Wrong { wrong: u64 },
}

/// The error as the user sees it: what, why, what to do.
pub(crate) fn render(error: &Error) -> String {
    let code = error.code().map_or_else(String::new, |code| format!("[{code}]"));
    let mut text = format!("error{code}: {error}\n");
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = writeln!(text, "  caused by: {next}");
        cause = next.source();
    }
    if let Some(help) = error.help() {
        let _ = writeln!(text, "  help: {help}");
    }
    text
}
