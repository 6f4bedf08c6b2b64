//! The functions of libibverbs, found at run time. `post_send`, `post_recv` and `poll_cq` are not among them: in C they
//! are inline functions that call through the context's table, and here too (see `queue_pair` and `completion`).

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use crate::error::Error;
use crate::sys;

macro_rules! library {
    (
        required { $($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)* }
        optional { $($option:ident = $symbol:literal: fn($($option_argument:ty),*) $(-> $option_result:ty)?;)* }
    ) => {
        /// libibverbs, loaded. Signatures as in `<infiniband/verbs.h>`.
        pub(crate) struct Library {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            $(pub(crate) $option: Option<unsafe extern "C" fn($($option_argument),*) $(-> $option_result)?>,)*
            // The functions above live in it, so it is never unloaded.
            _loaded: libloading::Library,
        }

        impl Library {
            fn find(library: libloading::Library) -> Result<Self, Error> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the type is that of this function in <infiniband/verbs.h>.
                        let symbol = unsafe { library.get(concat!(stringify!($name), "\0")) };
                        *symbol.map_err(|_| Error::SymbolMissing { symbol: stringify!($name) })?
                    },)*
                    $($option: {
                        // SAFETY: the type is that of this function in <infiniband/verbs.h>.
                        unsafe { library.get(concat!($symbol, "\0")) }.ok().map(|symbol| *symbol)
                    },)*
                    _loaded: library,
                })
            }
        }
    };
}

library! {
    required {
        ibv_get_device_list: fn(*mut c_int) -> *mut *mut sys::ibv_device;
        ibv_free_device_list: fn(*mut *mut sys::ibv_device);
        ibv_open_device: fn(*mut sys::ibv_device) -> *mut sys::ibv_context;
        ibv_close_device: fn(*mut sys::ibv_context) -> c_int;
        ibv_query_port: fn(*mut sys::ibv_context, u8, *mut sys::ibv_port_attr) -> c_int;
        ibv_query_device: fn(*mut sys::ibv_context, *mut sys::ibv_device_attr) -> c_int;
        ibv_alloc_pd: fn(*mut sys::ibv_context) -> *mut sys::ibv_pd;
        ibv_dealloc_pd: fn(*mut sys::ibv_pd) -> c_int;
        ibv_reg_mr: fn(*mut sys::ibv_pd, *mut c_void, usize, c_int) -> *mut sys::ibv_mr;
        ibv_dereg_mr: fn(*mut sys::ibv_mr) -> c_int;
        ibv_create_cq: fn(*mut sys::ibv_context, c_int, *mut c_void, *mut sys::ibv_comp_channel, c_int) -> *mut sys::ibv_cq;
        ibv_destroy_cq: fn(*mut sys::ibv_cq) -> c_int;
        ibv_create_qp: fn(*mut sys::ibv_pd, *mut sys::ibv_qp_init_attr) -> *mut sys::ibv_qp;
        ibv_modify_qp: fn(*mut sys::ibv_qp, *mut sys::ibv_qp_attr, c_int) -> c_int;
        ibv_destroy_qp: fn(*mut sys::ibv_qp) -> c_int;
        ibv_get_async_event: fn(*mut sys::ibv_context, *mut sys::ibv_async_event) -> c_int;
        ibv_ack_async_event: fn(*mut sys::ibv_async_event);
        ibv_wc_status_str: fn(sys::ibv_wc_status) -> *const c_char;
        ibv_event_type_str: fn(sys::ibv_event_type) -> *const c_char;
    }
    optional {
        ibv_reg_dmabuf_mr = "ibv_reg_dmabuf_mr": fn(*mut sys::ibv_pd, u64, usize, u64, c_int, c_int) -> *mut sys::ibv_mr;
        query_gid_ex = "_ibv_query_gid_ex": fn(*mut sys::ibv_context, u32, u32, *mut sys::ibv_gid_entry, u32, usize) -> c_int;
    }
}

const _: () = assert!(size_of::<c_uint>() == 4, "libibverbs' enumerations are 32 bits");

/// The library, loaded once. A failure is remembered too: a host does not grow an RDMA stack while a program runs.
pub(crate) fn library() -> Result<&'static Library, Error> {
    static LIBRARY: OnceLock<Result<Library, Error>> = OnceLock::new();
    let path = || halo_env::HALO_LIBIBVERBS.get().unwrap_or_else(|| "libibverbs.so.1".to_owned());
    LIBRARY.get_or_init(|| load(path())).as_ref().map_err(Clone::clone)
}

fn load(path: String) -> Result<Library, Error> {
    // SAFETY: loading libibverbs runs its constructors, which only read its configuration.
    let library = unsafe { libloading::Library::new(&path) };
    let library = library.map_err(|error| Error::LibraryMissing { path, cause: error.to_string() })?;
    Library::find(library)
}

/// A constant string that libibverbs returned.
pub(crate) fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: not null, and libibverbs returns static, terminated strings.
    unsafe { std::ffi::CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = load("/nonexistent/libibverbs.so.1".to_owned()).err().unwrap();
        assert!(
            matches!(&error, Error::LibraryMissing { path, .. } if path == "/nonexistent/libibverbs.so.1")
        );
        assert!(error.to_string().contains("/nonexistent/libibverbs.so.1"), "{error}");
    }

    #[test]
    fn a_library_without_verbs_is_told_by_the_function_it_lacks() {
        let error = load("libc.so.6".to_owned()).err().unwrap();
        assert!(matches!(error, Error::SymbolMissing { symbol: "ibv_get_device_list" }), "{error}");
    }
}
