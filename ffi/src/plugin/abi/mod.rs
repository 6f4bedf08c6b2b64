//! The interface between the core (RCCL, NCCL) and a net plugin or tuner, declared by hand: layouts are facts of the
//! public headers `net_v8.h` to `net_v12.h` and `tuner_v2.h` to `tuner_v6.h`, checked here at compile time.

pub mod net;
pub mod tuner;

use std::ffi::{c_char, c_int, c_ulong, c_void};

/// `ncclResult_t`.
pub type NcclResult = c_int;
/// It worked.
pub const SUCCESS: NcclResult = 0;
/// The system or this side's device failed.
pub const SYSTEM_ERROR: NcclResult = 2;
/// A bug.
pub const INTERNAL_ERROR: NcclResult = 3;
/// A call with arguments that make no sense.
pub const INVALID_ARGUMENT: NcclResult = 4;
/// A configuration that makes no sense.
pub const INVALID_USAGE: NcclResult = 5;
/// The peer failed.
pub const REMOTE_ERROR: NcclResult = 6;

/// `NCCL_LOG_WARN`.
pub const LOG_WARN: c_int = 2;
/// `NCCL_LOG_INFO`.
pub const LOG_INFO: c_int = 3;
/// `NCCL_INIT | NCCL_NET`.
pub const NET_SUBSYSTEM: c_ulong = 0x1 | 0x10;

/// `NCCL_PTR_HOST`.
pub const PTR_HOST: c_int = 1;
/// `NCCL_PTR_CUDA`: memory of the GPU, AMD's too.
pub const PTR_CUDA: c_int = 2;
/// `NCCL_PTR_DMABUF`.
pub const PTR_DMABUF: c_int = 4;

/// `NCCL_NET_HANDLE_MAXSIZE`.
pub const HANDLE_BYTES: usize = 128;
/// `NCCL_NET_MAX_REQUESTS`: requests of one connection at one time, times the receives grouped in one.
pub const MAX_REQUESTS: usize = 32;

/// `ncclDebugLogger_t`: level, subsystems, file, line, and a printf format with its arguments.
pub type Logger = unsafe extern "C" fn(c_int, c_ulong, *const c_char, c_int, *const c_char, ...);
/// `ncclProfilerCallback_t`, which this plugin does not call.
pub type Profiler =
    Option<unsafe extern "C" fn(*mut *mut c_void, c_int, *mut c_void, i64, *mut c_void) -> NcclResult>;
