//! What only a C caller can do wrong; everything else is an error of `halo-ccl`, passed on as it is.

use halo_ccl::FabricError;
use miette::Diagnostic;

/// An error of a call through `halo.h`.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Collective(#[from] halo_ccl::Error),

    #[error("{function}: {argument} is NULL")]
    #[diagnostic(
        code("HALO-E0510"),
        help("pass a valid pointer; only a buffer of 0 elements may be NULL, and what halo.h says so of")
    )]
    Null { function: &'static str, argument: &'static str },

    #[error("{function}: halo panicked: {message}")]
    #[diagnostic(
        code("HALO-E0511"),
        help(
            "this is a bug in halo; please report it with this message. The communicator cannot be used again"
        )
    )]
    Panic { function: &'static str, message: String },

    #[error("{function}: there is no {what} {given}")]
    #[diagnostic(code("HALO-E0512"), help("use one of: {known}"))]
    UnknownConstant { function: &'static str, what: &'static str, given: u32, known: String },

    #[error("{function}: input and output overlap in {bytes} bytes")]
    #[diagnostic(
        code("HALO-E0513"),
        help(
            "use buffers that lie apart, or pass the same pointer twice where halo.h allows an operation in place"
        )
    )]
    Overlap { function: &'static str, bytes: usize },

    #[error("{function}: another thread is in a call with this communicator")]
    #[diagnostic(
        code("HALO-E0514"),
        help("let one thread at a time use a communicator, or give each thread a communicator of its own")
    )]
    Busy { function: &'static str },

    #[error("{function}: a queue of this communicator is open")]
    #[diagnostic(
        code("HALO-E0517"),
        help("finish and free the queue first; until then only the queue can use the communicator")
    )]
    QueueOpen { function: &'static str },

    #[error("{function}: there is no operation {ticket}; {started} were started in this queue")]
    #[diagnostic(code("HALO-E0518"), help("pass a ticket that halo_queue_start of the same queue has given"))]
    UnknownTicket { function: &'static str, ticket: u64, started: u64 },

    #[error("{function}: there is no registration {registration} of this communicator")]
    #[diagnostic(
        code("HALO-E0519"),
        help(
            "pass a number that halo_communicator_register of the same communicator has given, and pass it once"
        )
    )]
    UnknownRegistration { function: &'static str, registration: u64 },

    #[error(
        "{function}: the memory at {address:#x} was not allocated by this communicator, or was given back"
    )]
    #[diagnostic(
        code("HALO-E0520"),
        help("pass what halo_communicator_allocate of the same communicator has given, and pass it once")
    )]
    UnknownAllocation { function: &'static str, address: usize },

    #[error("{function}: {argument} would be {count} x {size} bytes, more than this process can address")]
    #[diagnostic(
        code("HALO-E0515"),
        help("count is in elements, not in bytes; was it computed from a negative value?")
    )]
    TooLarge { function: &'static str, argument: &'static str, count: usize, size: usize },

    #[error("{function}: {argument} is not UTF-8: {text}")]
    #[diagnostic(code("HALO-E0516"), help("pass UTF-8 text that ends with a zero byte"))]
    NotText { function: &'static str, argument: &'static str, text: String },
}

impl From<FabricError> for Error {
    fn from(error: FabricError) -> Self {
        Self::Collective(error.into())
    }
}
