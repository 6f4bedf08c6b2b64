//! Errors and panics as Python exceptions. The classes are Python's (`halo/errors.py`); here they are only raised.

use std::panic::{AssertUnwindSafe, catch_unwind};

use halo_ccl::Error;
use pyo3::prelude::*;

/// The exception of an error.
pub(crate) fn raise(error: &Error) -> PyErr {
    exception(&error.stable_code(), &error.to_string(), &error.hint().unwrap_or_default(), error.peer())
}

/// Runs `work` without the interpreter's lock; an error or a panic becomes an exception.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    // What a panic leaves behind is a communicator that is never used again: its lock is poisoned, and every later call
    // is refused.
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    match outcome {
        Ok(result) => result.map_err(|error| raise(&error)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(panicked(text))
        }
    }
}

/// The exception of a panic.
pub(crate) fn panicked(text: &str) -> PyErr {
    let help = "this is a bug in halo; please report it with this message";
    exception("HALO-E0501", &format!("halo panicked: {text}"), help, None)
}

pub(crate) fn exception(code: &str, message: &str, help: &str, peer: Option<usize>) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("halo.errors")
            .and_then(|module| module.getattr("make"))
            .and_then(|make| make.call1((code, message, help, peer)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}
