//! Which library was loaded.

use std::ffi::c_char;

/// The version of this library, such as `0.1.0`; a string that lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn halo_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
