//! What the core finds in the library: one table per version of the interface, all over the same functions.
//!
//! These functions do nothing but turn pointers into what they stand for. Every one of them goes through [`guard`].

mod net;
mod tables;
#[cfg(test)]
mod tests;
mod tuner;

pub use tables::{
    ncclNetPlugin_v8, ncclNetPlugin_v9, ncclNetPlugin_v10, ncclNetPlugin_v11, ncclNetPlugin_v12,
};
pub use tuner::{
    ncclTunerPlugin_v2, ncclTunerPlugin_v3, ncclTunerPlugin_v4, ncclTunerPlugin_v5, ncclTunerPlugin_v6,
};

use std::ffi::c_void;

use super::boundary::Report;
use super::error::PluginError;

/// What a pointer of the core points to.
///
/// # Safety
/// It is NULL, or points to a live `T` that nobody else writes during the call.
unsafe fn given<'a, T>(call: &'static str, what: &str, pointer: *mut c_void) -> Result<&'a T, Report> {
    // SAFETY: by this function's contract.
    unsafe { pointer.cast::<T>().as_ref() }.ok_or_else(|| null(call, what))
}

/// Where the core wants something written.
///
/// # Safety
/// It is NULL, or may be written as a `T`.
unsafe fn write<T>(call: &'static str, what: &str, pointer: *mut T, value: T) -> Result<(), Report> {
    if pointer.is_null() {
        return Err(null(call, what));
    }
    // SAFETY: not NULL, and by this function's contract.
    unsafe { pointer.write(value) };
    Ok(())
}

fn null(call: &'static str, what: &str) -> Report {
    PluginError::Argument { call, what: format!("NULL for {what}") }.into()
}
