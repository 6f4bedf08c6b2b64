//! `ncclTuner_v2_t` to `ncclTuner_v6_t`.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

use super::{Logger, NcclResult};

/// The tree algorithm's place in a cost table.
pub const ALGORITHM_TREE: c_int = 0;
/// The ring algorithm's.
pub const ALGORITHM_RING: c_int = 1;
/// The low-latency protocol's place in a cost table.
pub const PROTOCOL_LL: c_int = 0;
/// The low-latency protocol's with 128-byte lines.
pub const PROTOCOL_LL128: c_int = 1;
/// The protocol for bandwidth.
pub const PROTOCOL_SIMPLE: c_int = 2;
/// An entry of a cost table that the core does not allow.
pub const COST_IGNORE: f32 = -1.0;

type Context = *mut c_void;

macro_rules! tables {
    ($(
        #[doc = $doc:literal]
        $table:ident { $($field:ident: fn($($argument:ty),* $(,)?);)* }
    )*) => { $(
        #[doc = $doc]
        #[repr(C)]
        #[derive(Debug, Clone, Copy)]
        #[allow(missing_docs, reason = "the fields are the core's")]
        pub struct $table {
            pub name: *const c_char,
            $(pub $field: Option<unsafe extern "C" fn($($argument),*) -> NcclResult>,)*
        }

        // SAFETY: constant pointers to constant strings and functions.
        unsafe impl Sync for $table {}
    )* };
}

tables! {
    /// `ncclTuner_v2_t`: the tuner names algorithm and protocol itself.
    TunerV2 {
        init: fn(usize, usize, Option<Logger>, *mut Context);
        get_coll_info: fn(Context, c_int, usize, c_int, c_int, c_int, *mut c_int, *mut c_int, *mut c_int);
        destroy: fn(Context);
    }
    /// `ncclTuner_v3_t`: from here on the tuner writes into a table of costs.
    TunerV3 {
        init: fn(usize, usize, Option<Logger>, *mut Context);
        get_coll_info: fn(Context, c_int, usize, c_int, *mut f32, c_int, c_int, *mut c_int);
        destroy: fn(Context);
    }
    /// `ncclTuner_v4_t`.
    TunerV4 {
        init: fn(usize, usize, Option<Logger>, *mut Context);
        get_coll_info: fn(Context, c_int, usize, c_int, *mut f32, c_int, c_int, c_int, *mut c_int);
        destroy: fn(Context);
    }
    /// `ncclTuner_v5_t`.
    TunerV5 {
        init: fn(*mut Context, u64, usize, usize, Option<Logger>, *mut c_void, *mut c_void);
        get_coll_info: fn(Context, c_int, usize, c_int, *mut f32, c_int, c_int, c_int, *mut c_int);
        finalize: fn(Context);
    }
    /// `ncclTuner_v6_t`.
    TunerV6 {
        init: fn(*mut Context, u64, usize, usize, Option<Logger>, *mut c_void, *mut c_void);
        get_coll_info: fn(Context, c_int, usize, c_int, *mut f32, c_int, c_int, c_int, *mut c_int);
        finalize: fn(Context);
        get_chunk_size: fn(Context, c_int, usize, c_int, c_int, c_int, *mut usize);
    }
}

const _: () = {
    assert!(size_of::<TunerV2>() == 32 && size_of::<TunerV3>() == 32 && size_of::<TunerV4>() == 32);
    assert!(size_of::<TunerV5>() == 32 && size_of::<TunerV6>() == 40);
    assert!(offset_of!(TunerV2, init) == 8 && offset_of!(TunerV2, get_coll_info) == 16);
    assert!(offset_of!(TunerV2, destroy) == 24 && offset_of!(TunerV5, finalize) == 24);
    assert!(offset_of!(TunerV6, get_chunk_size) == 32);
};
