//! The core's logger: where the plugin says everything it has to say.

use std::ffi::{CString, c_ulong};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::abi::{LOG_INFO, LOG_WARN, Logger, NET_SUBSYSTEM};

/// The logger of the core that initialised the plugin last. A pointer and no lock: a child of a fork must not wait for a
/// thread that it does not have.
static LOGGER: AtomicPtr<()> = AtomicPtr::new(null_mut());

/// Takes the core's logger. Without one, which no core does, the one before stays; warnings have standard error if there
/// has never been any.
pub(crate) fn set(logger: Option<Logger>) {
    if let Some(logger) = logger {
        LOGGER.store(logger as *mut (), Ordering::Release);
    }
}

/// Something that the user should act on.
pub(crate) fn warn(text: &str) {
    if !write(LOG_WARN, !0, text) {
        eprintln!("halo: {text}");
    }
}

/// Something that helps to understand a run; shown with `NCCL_DEBUG=INFO`.
pub(crate) fn info(text: &str) {
    write(LOG_INFO, NET_SUBSYSTEM, text);
}

fn write(level: i32, flags: c_ulong, text: &str) -> bool {
    let logger = LOGGER.load(Ordering::Acquire);
    if logger.is_null() {
        return false;
    }
    let line = format!("NET/halo: {}", text.replace('\0', " "));
    let line = CString::new(line).unwrap_or_default();
    // SAFETY: not NULL, so one that `set` has stored. The core's logger is a printf of this form and lives as long as
    // the core, which outlives its calls into the plugin; all strings are terminated, and `%s` takes the one argument.
    unsafe {
        let logger = std::mem::transmute::<*mut (), Logger>(logger);
        logger(level, flags, c"halo".as_ptr(), 0, c"%s".as_ptr(), line.as_ptr());
    };
    true
}
