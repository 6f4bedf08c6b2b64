//! The tuner's symbols.

use std::ffi::{CStr, c_int, c_void};

use super::{given, null, write};
use crate::plugin::abi::tuner::{COST_IGNORE, TunerV2, TunerV3, TunerV4, TunerV5, TunerV6};
use crate::plugin::abi::{Logger, NcclResult};
use crate::plugin::boundary::guard;
use crate::plugin::log;
use crate::plugin::tuner::{Choice, Tuner};

type Context = *mut c_void;

const NAME: &CStr = c"halo";

unsafe extern "C" fn init_v2(
    ranks: usize,
    hosts: usize,
    logger: Option<Logger>,
    context: *mut Context,
) -> NcclResult {
    log::set(logger);
    guard("the tuner's init", || {
        let made = Box::into_raw(Box::new(Tuner::new(ranks, hosts)?));
        // SAFETY: where the core keeps the context.
        unsafe { write("the tuner's init", "the context", context, made.cast()) }
    })
}

unsafe extern "C" fn init_v5(
    context: *mut Context,
    _: u64,
    ranks: usize,
    hosts: usize,
    logger: Option<Logger>,
    _domains: *mut c_void,
    _constants: *mut c_void,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { init_v2(ranks, hosts, logger, context) }
}

unsafe extern "C" fn finalize(context: Context) -> NcclResult {
    guard("the tuner's finalize", || {
        if !context.is_null() {
            // SAFETY: made by `init_v2`, given back once.
            drop(unsafe { Box::from_raw(context.cast::<Tuner>()) });
        }
        Ok(())
    })
}

/// # Safety
/// As the core calls `getCollInfo`: `channels` may be written.
unsafe fn choose(
    context: Context,
    collective: c_int,
    bytes: usize,
    channels: *mut c_int,
    tell: impl FnOnce(Choice) -> bool,
) -> NcclResult {
    guard("getCollInfo", || {
        // SAFETY: made by `init_v2`, not given back.
        let tuner = unsafe { given::<Tuner>("getCollInfo", "the context", context) }?;
        if let Some(choice) = tuner.choose(collective, bytes)
            && tell(choice)
            && let Some(count) = choice.channels
        {
            // SAFETY: where the core wants the number.
            unsafe { write("getCollInfo", "the channels", channels, count as c_int) }?;
        }
        Ok(())
    })
}

#[allow(clippy::too_many_arguments, reason = "the interface has them")]
unsafe extern "C" fn get_coll_info_v2(
    context: Context,
    collective: c_int,
    bytes: usize,
    _collnet: c_int,
    _nvls: c_int,
    _operations: c_int,
    algorithm: *mut c_int,
    protocol: *mut c_int,
    channels: *mut c_int,
) -> NcclResult {
    if algorithm.is_null() || protocol.is_null() {
        return guard("getCollInfo", || Err(null("getCollInfo", "the algorithm or the protocol")));
    }
    let tell = |choice: Choice| {
        // SAFETY: not NULL; where the core wants them.
        unsafe {
            algorithm.write(choice.algorithm);
            protocol.write(choice.protocol);
        }
        true
    };
    // SAFETY: passed on.
    unsafe { choose(context, collective, bytes, channels, tell) }
}

#[allow(clippy::too_many_arguments, reason = "the interface has them")]
unsafe extern "C" fn get_coll_info_v3(
    context: Context,
    collective: c_int,
    bytes: usize,
    _operations: c_int,
    costs: *mut f32,
    algorithms: c_int,
    protocols: c_int,
    channels: *mut c_int,
) -> NcclResult {
    let tell = |choice: Choice| {
        if costs.is_null() || choice.algorithm >= algorithms || choice.protocol >= protocols {
            return false;
        }
        // SAFETY: the core's table has `algorithms` rows of `protocols` costs, one behind the other.
        let cost = unsafe { &mut *costs.add((choice.algorithm * protocols + choice.protocol) as usize) };
        // What the core has ruled out stays out.
        let allowed = *cost != COST_IGNORE;
        if allowed {
            *cost = 0.0;
        }
        allowed
    };
    // SAFETY: passed on.
    unsafe { choose(context, collective, bytes, channels, tell) }
}

#[allow(clippy::too_many_arguments, reason = "the interface has them")]
unsafe extern "C" fn get_coll_info_v4(
    context: Context,
    collective: c_int,
    bytes: usize,
    operations: c_int,
    costs: *mut f32,
    algorithms: c_int,
    protocols: c_int,
    _registered: c_int,
    channels: *mut c_int,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe {
        get_coll_info_v3(context, collective, bytes, operations, costs, algorithms, protocols, channels)
    }
}

/// The tuner of NCCL 2.21's generation.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclTunerPlugin_v2: TunerV2 = TunerV2 {
    name: NAME.as_ptr(),
    init: Some(init_v2),
    get_coll_info: Some(get_coll_info_v2),
    destroy: Some(finalize),
};

/// The first with a table of costs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclTunerPlugin_v3: TunerV3 = TunerV3 {
    name: NAME.as_ptr(),
    init: Some(init_v2),
    get_coll_info: Some(get_coll_info_v3),
    destroy: Some(finalize),
};

/// Knows of registered buffers.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclTunerPlugin_v4: TunerV4 = TunerV4 {
    name: NAME.as_ptr(),
    init: Some(init_v2),
    get_coll_info: Some(get_coll_info_v4),
    destroy: Some(finalize),
};

/// Has the core's constants.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclTunerPlugin_v5: TunerV5 = TunerV5 {
    name: NAME.as_ptr(),
    init: Some(init_v5),
    get_coll_info: Some(get_coll_info_v4),
    finalize: Some(finalize),
};

/// The newest.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclTunerPlugin_v6: TunerV6 = TunerV6 {
    name: NAME.as_ptr(),
    init: Some(init_v5),
    get_coll_info: Some(get_coll_info_v4),
    finalize: Some(finalize),
    get_chunk_size: None,
};
