//! What a call answers, and the last error of the calling thread.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use miette::Diagnostic;

use crate::c_api::error::Error;

/// What a call answers: 0 when it did what was asked, else the digits of the error's stable code, so that
/// `HALO-E0219` is 219. docs/errors.md explains every code; the constants below are those a program may want to tell
/// apart.
pub type Status = i32;

/// The call did what was asked.
pub const HALO_OK: Status = 0;
/// A peer's process or host is gone. The communicator answers every later call with the same error.
pub const HALO_ERROR_PEER_LOST: Status = 219;
/// A peer closed its communicator while this rank still waited for it.
pub const HALO_ERROR_PEER_LEFT: Status = 220;
/// Another rank gave up and said why.
pub const HALO_ERROR_STOPPED_BY_PEER: Status = 221;
/// The communicator was closed before.
pub const HALO_ERROR_CLOSED: Status = 225;
/// The ranks are in different operations, or in the same one with other counts or types.
pub const HALO_ERROR_MISMATCH: Status = 301;
/// The deadline passed.
pub const HALO_ERROR_TIMEOUT: Status = 302;
/// A buffer or count does not fit the operation.
pub const HALO_ERROR_BUFFER_SIZE: Status = 303;
/// A rank that does not exist, or this one where another is needed.
pub const HALO_ERROR_BAD_RANK: Status = 305;
/// An argument is NULL that must not be.
pub const HALO_ERROR_NULL: Status = 510;
/// A bug in halo was caught at the boundary.
pub const HALO_ERROR_PANIC: Status = 511;
/// A constant that does not exist, such as an element type.
pub const HALO_ERROR_UNKNOWN_CONSTANT: Status = 512;
/// Input and output overlap, but are not the same.
pub const HALO_ERROR_OVERLAP: Status = 513;
/// Two threads are in one communicator at once.
pub const HALO_ERROR_BUSY: Status = 514;
/// A count of elements that no buffer can have.
pub const HALO_ERROR_TOO_LARGE: Status = 515;
/// Text that is not UTF-8.
pub const HALO_ERROR_NOT_TEXT: Status = 516;
/// A queue of the communicator is open, and only it can use the communicator.
pub const HALO_ERROR_QUEUE_OPEN: Status = 517;
/// A ticket that the queue has not given.
pub const HALO_ERROR_UNKNOWN_TICKET: Status = 518;
/// A registration that this communicator does not have, or has no more.
pub const HALO_ERROR_UNKNOWN_REGISTRATION: Status = 519;
/// Memory that this communicator has not allocated, or that was given back.
pub const HALO_ERROR_UNKNOWN_ALLOCATION: Status = 520;

/// The last error of a thread, as strings that C can read.
#[derive(Default)]
struct Last {
    code: CString,
    message: CString,
    help: CString,
    peer: Option<usize>,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

/// The code of this thread's last failed call, such as `HALO-E0219`; empty when none has failed. The string is valid
/// until the next call of this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn halo_error_code() -> *const c_char {
    LAST.with_borrow(|last| last.code.as_ptr())
}

/// What went wrong in this thread's last failed call, and where: which call, peer, device, file or value. Valid as
/// long as `halo_error_code`.
#[unsafe(no_mangle)]
pub extern "C" fn halo_error_message() -> *const c_char {
    LAST.with_borrow(|last| last.message.as_ptr())
}

/// What to do about it. Valid as long as `halo_error_code`.
#[unsafe(no_mangle)]
pub extern "C" fn halo_error_help() -> *const c_char {
    LAST.with_borrow(|last| last.help.as_ptr())
}

/// The rank that the last error of this thread is about (lost, left, or in another operation), or -1.
#[unsafe(no_mangle)]
pub extern "C" fn halo_error_peer() -> i32 {
    LAST.with_borrow(|last| last.peer.map_or(-1, |peer| peer as i32))
}

/// Runs the body of an exported function: its error or its panic becomes the thread's last error and a status.
pub(crate) fn boundary(function: &'static str, body: impl FnOnce() -> Result<(), Error>) -> Status {
    // What a panic leaves behind is not used again: a communicator's lock is poisoned by it, a queue lets go of its own.
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return HALO_OK,
        Ok(Err(error)) => error,
        Err(panic) => Error::Panic { function, message: message(panic.as_ref()) },
    };
    remember(&error)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

fn remember(error: &Error) -> Status {
    let code = error.code().map(|code| code.to_string()).unwrap_or_default();
    let status = code.trim_start_matches("HALO-E").parse().unwrap_or(HALO_ERROR_PANIC);
    LAST.set(Last {
        message: text(error.to_string()),
        help: text(error.help().map(|help| help.to_string()).unwrap_or_default()),
        peer: match error {
            Error::Collective(error) => error.peer(),
            _ => None,
        },
        code: text(code),
    });
    status
}

/// Text for C: a zero byte within it would end it early, so it is left out.
pub(crate) fn text(text: impl Into<String>) -> CString {
    let mut bytes = text.into().into_bytes();
    bytes.retain(|byte| *byte != 0);
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> [String; 3] {
        [halo_error_code(), halo_error_message(), halo_error_help()].map(|text| {
            // SAFETY: the three functions return strings that end with zero, valid until the next failure here.
            unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
        })
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(boundary("halo_test", || panic!("the {} broke", "bridge")), HALO_ERROR_PANIC);
        let [code, message, help] = last();
        assert_eq!(code, "HALO-E0511");
        assert_eq!(message, "halo_test: halo panicked: the bridge broke");
        assert!(help.contains("report it"), "{help}");
    }

    #[test]
    fn a_success_leaves_the_last_error_and_threads_have_their_own() {
        let null = || Err(Error::Null { function: "halo_test", argument: "config" });
        assert_eq!(boundary("halo_test", null), HALO_ERROR_NULL);
        assert_eq!(boundary("halo_test", || Ok(())), HALO_OK);
        assert_eq!(last()[1], "halo_test: config is NULL");
        std::thread::spawn(|| assert_eq!(last(), [""; 3])).join().unwrap();
    }

    #[test]
    fn every_constant_is_the_code_of_its_error() {
        let host = || "h".to_owned();
        let fabric = |error: halo_ccl::FabricError| Error::from(error);
        let cases = [
            (
                HALO_ERROR_PEER_LOST,
                fabric(halo_ccl::FabricError::PeerLost { peer: 1, host: host(), cause: host() }),
            ),
            (HALO_ERROR_PEER_LEFT, fabric(halo_ccl::FabricError::PeerLeft { peer: 1, host: host() })),
            (
                HALO_ERROR_STOPPED_BY_PEER,
                fabric(halo_ccl::FabricError::StoppedByPeer { peer: 1, host: host(), reason: host() }),
            ),
            (HALO_ERROR_CLOSED, fabric(halo_ccl::FabricError::Closed)),
            (
                HALO_ERROR_MISMATCH,
                halo_ccl::Error::Mismatch { rank: 0, ours: host(), peer: 1, host: host(), theirs: host() }
                    .into(),
            ),
            (
                HALO_ERROR_TIMEOUT,
                halo_ccl::Error::Timeout {
                    operation: host(),
                    rank: 0,
                    waiting_for: host(),
                    after: std::time::Duration::ZERO,
                }
                .into(),
            ),
            (
                HALO_ERROR_BUFFER_SIZE,
                halo_ccl::Error::BufferSize { operation: "o", buffer: "b", given: 0, expected: host() }
                    .into(),
            ),
            (
                HALO_ERROR_BAD_RANK,
                halo_ccl::Error::BadRank { operation: "o", given: 0, expected: host() }.into(),
            ),
            (HALO_ERROR_NULL, Error::Null { function: "f", argument: "a" }),
            (HALO_ERROR_PANIC, Error::Panic { function: "f", message: host() }),
            (
                HALO_ERROR_UNKNOWN_CONSTANT,
                Error::UnknownConstant { function: "f", what: "w", given: 0, known: host() },
            ),
            (HALO_ERROR_OVERLAP, Error::Overlap { function: "f", bytes: 1 }),
            (HALO_ERROR_BUSY, Error::Busy { function: "f" }),
            (HALO_ERROR_TOO_LARGE, Error::TooLarge { function: "f", argument: "a", count: 1, size: 1 }),
            (HALO_ERROR_QUEUE_OPEN, Error::QueueOpen { function: "f" }),
            (HALO_ERROR_UNKNOWN_TICKET, Error::UnknownTicket { function: "f", ticket: 1, started: 1 }),
            (HALO_ERROR_UNKNOWN_ALLOCATION, Error::UnknownAllocation { function: "f", address: 1 }),
            (HALO_ERROR_NOT_TEXT, Error::NotText { function: "f", argument: "a", text: host() }),
        ];
        for (status, error) in cases {
            assert_eq!(remember(&error), status, "{error}");
        }
    }
}
