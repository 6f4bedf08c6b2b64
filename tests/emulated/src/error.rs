//! Why a program could not be run, or its success is not believed.

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(
        "{missing} is not installed; `make setup-test` installs bochs, bochs-term and the others on Debian"
    )]
    MissingTools { missing: String },

    #[error("the kernel could not be fetched: {0}")]
    Fetch(#[from] halo_soft_roce::Error),

    #[error("{0} is not a kernel that can be started here: {1}")]
    Kernel(String, &'static str),

    #[error("the program is too large: {0} bytes of initramfs, and there is room for {1}")]
    TooLarge(usize, usize),

    #[error("{what}: {cause}")]
    Step { what: String, cause: String },

    #[error("the emulated processor has no {0}, or its kernel makes no use of it: nothing was tested")]
    Processor(String),

    #[error("the emulated machine's kernel gave up (its last lines are above)")]
    Panic,

    #[error("Bochs ended before the program did; the last lines of its log:\n{0}")]
    Ended(String),

    #[error("the program did not end within {0} s; it was ended")]
    Late(u64),

    #[error("the program ended well, but not one test has passed: was there none by that name?")]
    NoTest,
}

impl Error {
    /// For `map_err` on what the operating system answers.
    pub(crate) fn step(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Step { what, cause: cause.to_string() }
    }
}
