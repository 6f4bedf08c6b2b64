//! `ncclNet_v8_t` to `ncclNet_v12_t` and the properties they fill in.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

use super::{Logger, NcclResult, Profiler};

type Pointer = *mut c_void;
type Pointers = *mut *mut c_void;

/// `ncclNetProperties_v8_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are the core's, see `device::Properties`")]
pub struct PropertiesV8 {
    pub name: *const c_char,
    pub pci_path: *const c_char,
    pub guid: u64,
    pub ptr_support: c_int,
    pub reg_is_global: c_int,
    pub speed: c_int,
    pub port: c_int,
    pub latency: f32,
    pub max_comms: c_int,
    pub max_recvs: c_int,
    pub net_device_type: c_int,
    pub net_device_version: c_int,
}

/// `ncclNetVDeviceProps`: up to `N` devices that are used as one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are the core's")]
pub struct VirtualDevice<const N: usize> {
    pub ndevs: c_int,
    pub devs: [c_int; N],
}

/// `ncclNetProperties_v9_t`, which is also version 10's.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are the core's, see `device::Properties`")]
pub struct PropertiesV9<const N: usize = 4> {
    pub name: *const c_char,
    pub pci_path: *const c_char,
    pub guid: u64,
    pub ptr_support: c_int,
    pub reg_is_global: c_int,
    pub force_flush: c_int,
    pub speed: c_int,
    pub port: c_int,
    pub latency: f32,
    pub max_comms: c_int,
    pub max_recvs: c_int,
    pub net_device_type: c_int,
    pub net_device_version: c_int,
    pub virtual_device: VirtualDevice<N>,
    pub max_p2p_bytes: usize,
    pub max_coll_bytes: usize,
}

/// `ncclNetProperties_v11_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are the core's, see `device::Properties`")]
pub struct PropertiesV11 {
    pub before: PropertiesV9<4>,
    pub max_multi_request_size: c_int,
}

/// `ncclNetProperties_v12_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are the core's, see `device::Properties`")]
pub struct PropertiesV12 {
    pub before: PropertiesV9<8>,
    pub max_multi_request_size: c_int,
    pub rail_id: i16,
    pub plane_id: i16,
}

/// `ncclNetCommConfig`: what a communicator's configuration says to the net.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CommConfig {
    /// The traffic class, or -1.
    pub traffic_class: c_int,
}

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
    /// `ncclNet_v8_t`.
    NetV8 {
        init: fn(Option<Logger>);
        devices: fn(*mut c_int);
        get_properties: fn(c_int, *mut PropertiesV8);
        listen: fn(c_int, Pointer, Pointers);
        connect: fn(c_int, Pointer, Pointers, Pointers);
        accept: fn(Pointer, Pointers, Pointers);
        reg_mr: fn(Pointer, Pointer, usize, c_int, Pointers);
        reg_mr_dma_buf: fn(Pointer, Pointer, usize, c_int, u64, c_int, Pointers);
        dereg_mr: fn(Pointer, Pointer);
        isend: fn(Pointer, Pointer, c_int, c_int, Pointer, Pointers);
        irecv: fn(Pointer, c_int, Pointers, *mut c_int, *mut c_int, Pointers, Pointers);
        iflush: fn(Pointer, c_int, Pointers, *mut c_int, Pointers, Pointers);
        test: fn(Pointer, *mut c_int, *mut c_int);
        close_send: fn(Pointer);
        close_recv: fn(Pointer);
        close_listen: fn(Pointer);
        get_device_mr: fn(Pointer, Pointer, Pointers);
        irecv_consumed: fn(Pointer, c_int, Pointer);
    }
    /// `ncclNet_v9_t`.
    NetV9 {
        init: fn(Option<Logger>);
        devices: fn(*mut c_int);
        get_properties: fn(c_int, *mut PropertiesV9<4>);
        listen: fn(c_int, Pointer, Pointers);
        connect: fn(c_int, Pointer, Pointers, Pointers);
        accept: fn(Pointer, Pointers, Pointers);
        reg_mr: fn(Pointer, Pointer, usize, c_int, Pointers);
        reg_mr_dma_buf: fn(Pointer, Pointer, usize, c_int, u64, c_int, Pointers);
        dereg_mr: fn(Pointer, Pointer);
        isend: fn(Pointer, Pointer, usize, c_int, Pointer, Pointers);
        irecv: fn(Pointer, c_int, Pointers, *mut usize, *mut c_int, Pointers, Pointers);
        iflush: fn(Pointer, c_int, Pointers, *mut c_int, Pointers, Pointers);
        test: fn(Pointer, *mut c_int, *mut c_int);
        close_send: fn(Pointer);
        close_recv: fn(Pointer);
        close_listen: fn(Pointer);
        get_device_mr: fn(Pointer, Pointer, Pointers);
        irecv_consumed: fn(Pointer, c_int, Pointer);
        make_virtual_device: fn(*mut c_int, *mut VirtualDevice<4>);
    }
    /// `ncclNet_v10_t`.
    NetV10 {
        init: fn(Option<Logger>, Profiler);
        devices: fn(*mut c_int);
        get_properties: fn(c_int, *mut PropertiesV9<4>);
        listen: fn(c_int, Pointer, Pointers);
        connect: fn(c_int, *mut CommConfig, Pointer, Pointers, Pointers);
        accept: fn(Pointer, Pointers, Pointers);
        reg_mr: fn(Pointer, Pointer, usize, c_int, Pointers);
        reg_mr_dma_buf: fn(Pointer, Pointer, usize, c_int, u64, c_int, Pointers);
        dereg_mr: fn(Pointer, Pointer);
        isend: fn(Pointer, Pointer, usize, c_int, Pointer, Pointer, Pointers);
        irecv: fn(Pointer, c_int, Pointers, *mut usize, *mut c_int, Pointers, Pointers, Pointers);
        iflush: fn(Pointer, c_int, Pointers, *mut c_int, Pointers, Pointers);
        test: fn(Pointer, *mut c_int, *mut c_int);
        close_send: fn(Pointer);
        close_recv: fn(Pointer);
        close_listen: fn(Pointer);
        get_device_mr: fn(Pointer, Pointer, Pointers);
        irecv_consumed: fn(Pointer, c_int, Pointer);
        make_virtual_device: fn(*mut c_int, *mut VirtualDevice<4>);
    }
    /// `ncclNet_v11_t`.
    NetV11 {
        init: fn(Pointers, u64, *mut CommConfig, Option<Logger>, Profiler);
        devices: fn(*mut c_int);
        get_properties: fn(c_int, *mut PropertiesV11);
        listen: fn(Pointer, c_int, Pointer, Pointers);
        connect: fn(Pointer, c_int, Pointer, Pointers, Pointers);
        accept: fn(Pointer, Pointers, Pointers);
        reg_mr: fn(Pointer, Pointer, usize, c_int, Pointers);
        reg_mr_dma_buf: fn(Pointer, Pointer, usize, c_int, u64, c_int, Pointers);
        dereg_mr: fn(Pointer, Pointer);
        isend: fn(Pointer, Pointer, usize, c_int, Pointer, Pointer, Pointers);
        irecv: fn(Pointer, c_int, Pointers, *mut usize, *mut c_int, Pointers, Pointers, Pointers);
        iflush: fn(Pointer, c_int, Pointers, *mut c_int, Pointers, Pointers);
        test: fn(Pointer, *mut c_int, *mut c_int);
        close_send: fn(Pointer);
        close_recv: fn(Pointer);
        close_listen: fn(Pointer);
        get_device_mr: fn(Pointer, Pointer, Pointers);
        irecv_consumed: fn(Pointer, c_int, Pointer);
        make_virtual_device: fn(*mut c_int, *mut VirtualDevice<4>);
        finalize: fn(Pointer);
        set_net_attributes: fn(Pointer, Pointer);
    }
    /// `ncclNet_v12_t`.
    NetV12 {
        init: fn(Pointers, u64, *mut CommConfig, Option<Logger>, Profiler);
        devices: fn(*mut c_int);
        get_properties: fn(c_int, *mut PropertiesV12);
        listen: fn(Pointer, c_int, Pointer, Pointers);
        connect: fn(Pointer, c_int, Pointer, Pointers, Pointers);
        accept: fn(Pointer, Pointers, Pointers);
        reg_mr: fn(Pointer, Pointer, usize, c_int, Pointers);
        reg_mr_dma_buf: fn(Pointer, Pointer, usize, c_int, u64, c_int, Pointers);
        dereg_mr: fn(Pointer, Pointer);
        isend: fn(Pointer, Pointer, usize, c_int, Pointer, Pointer, Pointers);
        irecv: fn(Pointer, c_int, Pointers, *mut usize, *mut c_int, Pointers, Pointers, Pointers);
        iflush: fn(Pointer, c_int, Pointers, *mut c_int, Pointers, Pointers);
        test: fn(Pointer, *mut c_int, *mut c_int);
        close_send: fn(Pointer);
        close_recv: fn(Pointer);
        close_listen: fn(Pointer);
        get_device_mr: fn(Pointer, Pointer, Pointers);
        irecv_consumed: fn(Pointer, c_int, Pointer);
        make_virtual_device: fn(*mut c_int, *mut VirtualDevice<8>);
        finalize: fn(Pointer);
        set_net_attributes: fn(Pointer, Pointer);
    }
}

macro_rules! layout {
    ($type:ty, $size:literal, $($field:ident @ $offset:literal),*) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };
    };
}

layout!(PropertiesV8, 64, name @ 0, pci_path @ 8, guid @ 16, ptr_support @ 24, reg_is_global @ 28, speed @ 32,
    port @ 36, latency @ 40, max_comms @ 44, max_recvs @ 48, net_device_type @ 52, net_device_version @ 56);
layout!(PropertiesV9<4>, 104, name @ 0, pci_path @ 8, guid @ 16, ptr_support @ 24, reg_is_global @ 28,
    force_flush @ 32, speed @ 36, port @ 40, latency @ 44, max_comms @ 48, max_recvs @ 52, net_device_type @ 56,
    net_device_version @ 60, virtual_device @ 64, max_p2p_bytes @ 88, max_coll_bytes @ 96);
layout!(PropertiesV11, 112, before @ 0, max_multi_request_size @ 104);
layout!(PropertiesV9<8>, 120, virtual_device @ 64, max_p2p_bytes @ 104, max_coll_bytes @ 112);
layout!(PropertiesV12, 128, before @ 0, max_multi_request_size @ 120, rail_id @ 124, plane_id @ 126);
layout!(VirtualDevice<4>, 20, ndevs @ 0, devs @ 4);
layout!(VirtualDevice<8>, 36, ndevs @ 0, devs @ 4);
layout!(CommConfig, 4, traffic_class @ 0);
layout!(NetV8, 152, name @ 0, init @ 8, devices @ 16, get_properties @ 24, listen @ 32, connect @ 40, accept @ 48,
    reg_mr @ 56, reg_mr_dma_buf @ 64, dereg_mr @ 72, isend @ 80, irecv @ 88, iflush @ 96, test @ 104,
    close_send @ 112, close_recv @ 120, close_listen @ 128, get_device_mr @ 136, irecv_consumed @ 144);
layout!(NetV9, 160, init @ 8, isend @ 80, irecv @ 88, irecv_consumed @ 144, make_virtual_device @ 152);
layout!(NetV10, 160, init @ 8, isend @ 80, irecv @ 88, irecv_consumed @ 144, make_virtual_device @ 152);
layout!(NetV11, 176, init @ 8, isend @ 80, make_virtual_device @ 152, finalize @ 160, set_net_attributes @ 168);
layout!(NetV12, 176, init @ 8, isend @ 80, make_virtual_device @ 152, finalize @ 160, set_net_attributes @ 168);
