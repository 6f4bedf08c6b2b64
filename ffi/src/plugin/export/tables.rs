//! The symbols that the core looks for, newest first.
//!
//! Left out, as the core allows: `getDeviceMr` and `irecvConsumed` (for networks that the GPU drives), `setNetAttr` (a
//! hint).

use super::net;
use crate::plugin::abi::net::{NetV8, NetV9, NetV10, NetV11, NetV12};

/// What `NCCL_NET` is compared with.
const NAME: &std::ffi::CStr = c"halo";

/// For RCCL of ROCm 6.2 to 6.4.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclNetPlugin_v8: NetV8 = NetV8 {
    name: NAME.as_ptr(),
    init: Some(net::init_v8),
    devices: Some(net::devices),
    get_properties: Some(net::get_properties_v8),
    listen: Some(net::listen),
    connect: Some(net::connect_v8),
    accept: Some(net::accept),
    reg_mr: Some(net::reg_mr),
    reg_mr_dma_buf: Some(net::reg_mr_dma_buf),
    dereg_mr: Some(net::dereg_mr),
    isend: Some(net::isend_v8),
    irecv: Some(net::irecv_v8),
    iflush: Some(net::iflush),
    test: Some(net::test),
    close_send: Some(net::close_comm),
    close_recv: Some(net::close_comm),
    close_listen: Some(net::close_listen),
    get_device_mr: None,
    irecv_consumed: None,
};

/// For NCCL 2.24 and 2.25.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclNetPlugin_v9: NetV9 = NetV9 {
    name: NAME.as_ptr(),
    init: Some(net::init_v8),
    devices: Some(net::devices),
    get_properties: Some(net::get_properties_v9),
    listen: Some(net::listen),
    connect: Some(net::connect_v8),
    accept: Some(net::accept),
    reg_mr: Some(net::reg_mr),
    reg_mr_dma_buf: Some(net::reg_mr_dma_buf),
    dereg_mr: Some(net::dereg_mr),
    isend: Some(net::isend_v9),
    irecv: Some(net::irecv_v9),
    iflush: Some(net::iflush),
    test: Some(net::test),
    close_send: Some(net::close_comm),
    close_recv: Some(net::close_comm),
    close_listen: Some(net::close_listen),
    get_device_mr: None,
    irecv_consumed: None,
    make_virtual_device: Some(net::make_virtual_device),
};

/// For RCCL of ROCm 7.0 to 7.2.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclNetPlugin_v10: NetV10 = NetV10 {
    name: NAME.as_ptr(),
    init: Some(net::init_v10),
    devices: Some(net::devices),
    get_properties: Some(net::get_properties_v9),
    listen: Some(net::listen),
    connect: Some(net::connect_v10),
    accept: Some(net::accept),
    reg_mr: Some(net::reg_mr),
    reg_mr_dma_buf: Some(net::reg_mr_dma_buf),
    dereg_mr: Some(net::dereg_mr),
    isend: Some(net::isend_v10),
    irecv: Some(net::irecv_v10),
    iflush: Some(net::iflush),
    test: Some(net::test),
    close_send: Some(net::close_comm),
    close_recv: Some(net::close_comm),
    close_listen: Some(net::close_listen),
    get_device_mr: None,
    irecv_consumed: None,
    make_virtual_device: Some(net::make_virtual_device),
};

/// For RCCL of ROCm 7.11 to 7.13.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclNetPlugin_v11: NetV11 = NetV11 {
    name: NAME.as_ptr(),
    init: Some(net::init_v11),
    devices: Some(net::devices),
    get_properties: Some(net::get_properties_v11),
    listen: Some(net::listen_v11),
    connect: Some(net::connect_v11),
    accept: Some(net::accept),
    reg_mr: Some(net::reg_mr),
    reg_mr_dma_buf: Some(net::reg_mr_dma_buf),
    dereg_mr: Some(net::dereg_mr),
    isend: Some(net::isend_v10),
    irecv: Some(net::irecv_v10),
    iflush: Some(net::iflush),
    test: Some(net::test),
    close_send: Some(net::close_comm),
    close_recv: Some(net::close_comm),
    close_listen: Some(net::close_listen),
    get_device_mr: None,
    irecv_consumed: None,
    make_virtual_device: Some(net::make_virtual_device),
    finalize: Some(net::finalize),
    set_net_attributes: None,
};

/// For RCCL of ROCm 7.14 and later, and NCCL 2.30 and later.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the core looks for this name")]
pub static ncclNetPlugin_v12: NetV12 = NetV12 {
    name: NAME.as_ptr(),
    init: Some(net::init_v11),
    devices: Some(net::devices),
    get_properties: Some(net::get_properties_v12),
    listen: Some(net::listen_v11),
    connect: Some(net::connect_v11),
    accept: Some(net::accept),
    reg_mr: Some(net::reg_mr),
    reg_mr_dma_buf: Some(net::reg_mr_dma_buf),
    dereg_mr: Some(net::dereg_mr),
    isend: Some(net::isend_v10),
    irecv: Some(net::irecv_v10),
    iflush: Some(net::iflush),
    test: Some(net::test),
    close_send: Some(net::close_comm),
    close_recv: Some(net::close_comm),
    close_listen: Some(net::close_listen),
    get_device_mr: None,
    irecv_consumed: None,
    make_virtual_device: Some(net::make_virtual_device),
    finalize: Some(net::finalize),
    set_net_attributes: None,
};
