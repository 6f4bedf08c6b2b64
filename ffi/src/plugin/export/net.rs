//! The functions behind every version's table.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

use super::{given, null, write};
use crate::plugin::abi::net::{
    CommConfig, PropertiesV8, PropertiesV9, PropertiesV11, PropertiesV12, VirtualDevice,
};
use crate::plugin::abi::{HANDLE_BYTES, Logger, NcclResult, Profiler};
use crate::plugin::boundary::{Report, guard};
use crate::plugin::comm::memory::{DmaBuf, Memory};
use crate::plugin::comm::{Comm, Incoming, Ticket};
use crate::plugin::connection::caller;
use crate::plugin::connection::listener::Listener;
use crate::plugin::device::{self, MAX_MESSAGE_BYTES, MAX_RECEIVES, Properties};
use crate::plugin::error::PluginError;
use crate::plugin::log;
use crate::plugin::process::take_back;

type Pointer = *mut c_void;
type Pointers = *mut *mut c_void;

/// What a communicator of version 11 and later has told when it was made.
#[derive(Debug)]
struct Context {
    traffic_class: Option<u8>,
}

fn traffic_class(config: Option<&CommConfig>) -> Option<u8> {
    config.and_then(|config| u8::try_from(config.traffic_class).ok())
}

// SAFETY (of every function below): the core calls them as its headers say; each pointer is checked for NULL and used
// as what the plugin, or the header, has made it.

pub(super) unsafe extern "C" fn init_v8(logger: Option<Logger>) -> NcclResult {
    log::set(logger);
    guard("init", || Ok(device::initialise()?))
}

pub(super) unsafe extern "C" fn init_v10(logger: Option<Logger>, _: Profiler) -> NcclResult {
    // SAFETY: passed on.
    unsafe { init_v8(logger) }
}

pub(super) unsafe extern "C" fn init_v11(
    context: Pointers,
    _: u64,
    config: *mut CommConfig,
    logger: Option<Logger>,
    _: Profiler,
) -> NcclResult {
    log::set(logger);
    guard("init", || {
        // SAFETY: NULL, or the communicator's configuration.
        let traffic_class = traffic_class(unsafe { config.as_ref() });
        if context.is_null() {
            return Err(null("init", "the context"));
        }
        device::begin()?;
        let made = Box::into_raw(Box::new(Context { traffic_class }));
        // SAFETY: where the core keeps the context.
        unsafe { write("init", "the context", context, made.cast()) }
    })
}

pub(super) unsafe extern "C" fn finalize(context: Pointer) -> NcclResult {
    guard("finalize", || {
        if !context.is_null() {
            // SAFETY: made by `init_v11`, given back once.
            drop(unsafe { Box::from_raw(context.cast::<Context>()) });
            device::end();
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn devices(count: *mut c_int) -> NcclResult {
    guard("devices", || {
        let devices = device::all()?;
        // SAFETY: where the core wants the count.
        unsafe { write("devices", "the count", count, devices.len() as c_int) }
    })
}

/// The properties up to version 10, of which later ones are extensions.
fn properties<const N: usize>(number: c_int) -> Result<PropertiesV9<N>, Report> {
    let device = device::by_number(number)?;
    let Properties { name, pci_path, guid, pointer_support, speed, port } = &device.properties;
    let mut devs = [0; N];
    devs[..device.members.len()].copy_from_slice(&device.members);
    Ok(PropertiesV9 {
        name: name.as_ptr(),
        pci_path: pci_path.as_ref().map_or(std::ptr::null::<c_char>(), |path| path.as_ptr()),
        guid: *guid,
        ptr_support: *pointer_support,
        reg_is_global: 1,
        force_flush: 0,
        speed: *speed,
        port: *port,
        // Not known: the core then counts with its own figure.
        latency: 0.0,
        max_comms: 65536,
        max_recvs: MAX_RECEIVES as c_int,
        // NCCL_NET_DEVICE_HOST: the core's proxy thread drives it.
        net_device_type: 0,
        net_device_version: 0,
        virtual_device: VirtualDevice { ndevs: device.members.len() as c_int, devs },
        max_p2p_bytes: MAX_MESSAGE_BYTES as usize,
        max_coll_bytes: MAX_MESSAGE_BYTES as usize,
    })
}

pub(super) unsafe extern "C" fn get_properties_v8(number: c_int, target: *mut PropertiesV8) -> NcclResult {
    guard("getProperties", || {
        let all = properties::<4>(number)?;
        let these = PropertiesV8 {
            name: all.name,
            pci_path: all.pci_path,
            guid: all.guid,
            ptr_support: all.ptr_support,
            reg_is_global: all.reg_is_global,
            speed: all.speed,
            port: all.port,
            latency: all.latency,
            max_comms: all.max_comms,
            max_recvs: all.max_recvs,
            net_device_type: all.net_device_type,
            net_device_version: all.net_device_version,
        };
        // SAFETY: where the core wants them.
        unsafe { write("getProperties", "the properties", target, these) }
    })
}

pub(super) unsafe extern "C" fn get_properties_v9(number: c_int, target: *mut PropertiesV9<4>) -> NcclResult {
    guard("getProperties", || {
        let these = properties(number)?;
        // SAFETY: where the core wants them.
        unsafe { write("getProperties", "the properties", target, these) }
    })
}

pub(super) unsafe extern "C" fn get_properties_v11(number: c_int, target: *mut PropertiesV11) -> NcclResult {
    guard("getProperties", || {
        let these = PropertiesV11 { before: properties(number)?, max_multi_request_size: 1 };
        // SAFETY: where the core wants them.
        unsafe { write("getProperties", "the properties", target, these) }
    })
}

pub(super) unsafe extern "C" fn get_properties_v12(number: c_int, target: *mut PropertiesV12) -> NcclResult {
    guard("getProperties", || {
        // -1: this plugin knows of no rails and planes.
        let before = properties(number)?;
        let these = PropertiesV12 { before, max_multi_request_size: 1, rail_id: -1, plane_id: -1 };
        // SAFETY: where the core wants them.
        unsafe { write("getProperties", "the properties", target, these) }
    })
}

/// Several devices as one. The core asks for the ports of one NIC (`NCCL_NET_MERGE_LEVEL`) or for those that its user
/// names (`NCCL_NET_FORCE_MERGE`), and then counts the devices again.
pub(super) unsafe extern "C" fn make_virtual_device<const N: usize>(
    number: *mut c_int,
    asked: *mut VirtualDevice<N>,
) -> NcclResult {
    guard("makeVDevice", || {
        // SAFETY: NULL, or the numbers of the devices that the core means.
        let asked = unsafe { asked.as_ref() }.ok_or_else(|| null("makeVDevice", "the devices"))?;
        let count = usize::try_from(asked.ndevs).ok().filter(|count| *count <= N);
        let count = count.ok_or_else(|| PluginError::Argument {
            call: "makeVDevice",
            what: format!("{} devices", asked.ndevs),
        })?;
        let made = device::join(&asked.devs[..count]).map_err(|error| match error {
            // The ports stay as they are, which is as good; the core says that it goes on without.
            PluginError::Join { .. } => {
                log::info(&error.one_line());
                Report::Told(error)
            }
            error => error.into(),
        })?;
        // SAFETY: where the core wants the number.
        unsafe { write("makeVDevice", "the number", number, made) }
    })
}

pub(super) unsafe extern "C" fn listen(number: c_int, handle: Pointer, listener: Pointers) -> NcclResult {
    guard("listen", || {
        if handle.is_null() || listener.is_null() {
            return Err(null("listen", "the handle or the listener"));
        }
        let (made, address) = Listener::new(device::by_number(number)?)?;
        // SAFETY: the core lends HANDLE_BYTES for the handle, and a place for the listener.
        unsafe {
            handle.cast::<[u8; HANDLE_BYTES]>().write_unaligned(address.encode());
            listener.write(Box::into_raw(Box::new(made)).cast());
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn listen_v11(
    _: Pointer,
    number: c_int,
    handle: Pointer,
    listener: Pointers,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { listen(number, handle, listener) }
}

/// # Safety
/// As the core calls `connect`.
unsafe fn connect(number: c_int, handle: Pointer, comm: Pointers, traffic_class: Option<u8>) -> NcclResult {
    guard("connect", || {
        // SAFETY: where the core wants the connection.
        unsafe { write("connect", "the connection", comm, null_mut()) }?;
        let device = device::by_number(number)?;
        // SAFETY: NULL, or the core's copy of the handle, which is the plugin's to write until the connection stands;
        // bytes have no alignment.
        let handle = unsafe { handle.cast::<[u8; HANDLE_BYTES]>().as_mut() };
        let handle = handle.ok_or_else(|| null("connect", "the handle"))?;
        if let Some(made) = caller::connect(device, handle, traffic_class)? {
            // SAFETY: not NULL, written above.
            unsafe { comm.write(Box::into_raw(made).cast()) };
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn connect_v8(
    number: c_int,
    handle: Pointer,
    comm: Pointers,
    _device_handle: Pointers,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { connect(number, handle, comm, None) }
}

pub(super) unsafe extern "C" fn connect_v10(
    number: c_int,
    config: *mut CommConfig,
    handle: Pointer,
    comm: Pointers,
    _device_handle: Pointers,
) -> NcclResult {
    // SAFETY: NULL, or the communicator's configuration; the rest is passed on.
    unsafe { connect(number, handle, comm, traffic_class(config.as_ref())) }
}

pub(super) unsafe extern "C" fn connect_v11(
    context: Pointer,
    number: c_int,
    handle: Pointer,
    comm: Pointers,
    _device_handle: Pointers,
) -> NcclResult {
    // SAFETY: NULL, or made by `init_v11`; the rest is passed on.
    unsafe {
        let context = context.cast::<Context>().as_ref();
        connect(number, handle, comm, context.and_then(|context| context.traffic_class))
    }
}

pub(super) unsafe extern "C" fn accept(
    listener: Pointer,
    comm: Pointers,
    _device_handle: Pointers,
) -> NcclResult {
    guard("accept", || {
        // SAFETY: where the core wants the connection.
        unsafe { write("accept", "the connection", comm, null_mut()) }?;
        // SAFETY: made by `listen`, not closed.
        let listener = unsafe { given::<Listener>("accept", "the listener", listener) }?;
        if let Some(made) = listener.accept()? {
            // SAFETY: not NULL, written above.
            unsafe { comm.write(Box::into_raw(made).cast()) };
        }
        Ok(())
    })
}

/// # Safety
/// As the core calls `regMr` and `regMrDmaBuf`.
unsafe fn register(
    comm: Pointer,
    data: Pointer,
    bytes: usize,
    kind: c_int,
    dma_buf: Option<DmaBuf>,
    memory: Pointers,
) -> NcclResult {
    guard("regMr", || {
        // SAFETY: made by `connect` or `accept`, not closed.
        let comm = unsafe { given::<Comm>("regMr", "the connection", comm) }?;
        let made = Memory::register(comm.device, data.cast(), bytes, kind, dma_buf)?;
        // SAFETY: where the core wants the handle.
        unsafe { write("regMr", "the memory handle", memory, Box::into_raw(made).cast()) }
    })
}

pub(super) unsafe extern "C" fn reg_mr(
    comm: Pointer,
    data: Pointer,
    bytes: usize,
    kind: c_int,
    memory: Pointers,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { register(comm, data, bytes, kind, None, memory) }
}

pub(super) unsafe extern "C" fn reg_mr_dma_buf(
    comm: Pointer,
    data: Pointer,
    bytes: usize,
    kind: c_int,
    offset: u64,
    file: c_int,
    memory: Pointers,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { register(comm, data, bytes, kind, Some(DmaBuf { file, offset }), memory) }
}

pub(super) unsafe extern "C" fn dereg_mr(_: Pointer, memory: Pointer) -> NcclResult {
    guard("deregMr", || {
        if !memory.is_null() {
            // SAFETY: made by `register`, given back once. Requests that use the memory hold the registration itself.
            unsafe { take_back::<Memory>(memory) };
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn isend_v8(
    comm: Pointer,
    data: Pointer,
    bytes: c_int,
    tag: c_int,
    memory: Pointer,
    request: Pointers,
) -> NcclResult {
    // A negative size is far above what a message may have.
    // SAFETY: passed on.
    unsafe { isend_v10(comm, data, bytes as usize, tag, memory, null_mut(), request) }
}

pub(super) unsafe extern "C" fn isend_v9(
    comm: Pointer,
    data: Pointer,
    bytes: usize,
    tag: c_int,
    memory: Pointer,
    request: Pointers,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { isend_v10(comm, data, bytes, tag, memory, null_mut(), request) }
}

pub(super) unsafe extern "C" fn isend_v10(
    comm: Pointer,
    data: Pointer,
    bytes: usize,
    tag: c_int,
    memory: Pointer,
    _profiler_handle: Pointer,
    request: Pointers,
) -> NcclResult {
    guard("isend", || {
        // SAFETY: where the core wants the request.
        unsafe { write("isend", "the request", request, null_mut()) }?;
        // SAFETY: made by `connect`, not closed; NULL, or made by `register`.
        let (comm, memory) =
            unsafe { (given::<Comm>("isend", "the connection", comm)?, memory.cast::<Memory>().as_ref()) };
        if let Some(ticket) = comm.send(data.cast(), bytes as u64, tag, memory)? {
            // SAFETY: not NULL, written above.
            unsafe { request.write(ticket.as_pointer()) };
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn irecv_v8(
    comm: Pointer,
    count: c_int,
    data: Pointers,
    sizes: *mut c_int,
    tags: *mut c_int,
    memories: Pointers,
    request: Pointers,
) -> NcclResult {
    // SAFETY: the core's array has `count` sizes.
    let size = |index| unsafe { sizes.add(index).read() } as usize;
    // SAFETY: passed on.
    unsafe { irecv(comm, count, data, sizes.is_null(), size, tags, memories, request) }
}

pub(super) unsafe extern "C" fn irecv_v9(
    comm: Pointer,
    count: c_int,
    data: Pointers,
    sizes: *mut usize,
    tags: *mut c_int,
    memories: Pointers,
    request: Pointers,
) -> NcclResult {
    // SAFETY: passed on.
    unsafe { irecv_v10(comm, count, data, sizes, tags, memories, null_mut(), request) }
}

#[allow(clippy::too_many_arguments, reason = "the interface has them")]
pub(super) unsafe extern "C" fn irecv_v10(
    comm: Pointer,
    count: c_int,
    data: Pointers,
    sizes: *mut usize,
    tags: *mut c_int,
    memories: Pointers,
    _profiler_handles: Pointers,
    request: Pointers,
) -> NcclResult {
    // SAFETY: the core's array has `count` sizes.
    let size = |index| unsafe { sizes.add(index).read() };
    // SAFETY: passed on.
    unsafe { irecv(comm, count, data, sizes.is_null(), size, tags, memories, request) }
}

/// # Safety
/// As the core calls `irecv`.
#[allow(clippy::too_many_arguments, reason = "the interface has them")]
unsafe fn irecv(
    comm: Pointer,
    count: c_int,
    data: Pointers,
    no_sizes: bool,
    size: impl Fn(usize) -> usize,
    tags: *mut c_int,
    memories: Pointers,
    request: Pointers,
) -> NcclResult {
    guard("irecv", || {
        // Also where 1 came in, by which a core says that it can do without the completion: it gets one.
        // SAFETY: where the core wants the request.
        unsafe { write("irecv", "the request", request, null_mut()) }?;
        if data.is_null() || no_sizes || tags.is_null() || memories.is_null() {
            return Err(null("irecv", "an array"));
        }
        // SAFETY: made by `accept`, not closed.
        let comm = unsafe { given::<Comm>("irecv", "the connection", comm) }?;
        let mut parts = [const { None }; MAX_RECEIVES];
        let count = usize::try_from(count).ok().filter(|count| (1..=MAX_RECEIVES).contains(count));
        let count = count.ok_or_else(|| PluginError::Argument {
            call: "irecv",
            what: format!("a number of receives outside of 1 to {MAX_RECEIVES}"),
        })?;
        for (index, part) in parts[..count].iter_mut().enumerate() {
            // SAFETY: the core's arrays have `count` entries; a memory handle is NULL or made by `register`.
            *part = Some(unsafe {
                Incoming {
                    tag: tags.add(index).read(),
                    data: data.add(index).read().cast(),
                    room: size(index) as u64,
                    memory: memories.add(index).read().cast::<Memory>().as_ref(),
                }
            });
        }
        let parts: [Incoming<'_>; MAX_RECEIVES] = parts.map(|part| part.unwrap_or(Incoming::NONE));
        if let Some(ticket) = comm.receive(&parts[..count])? {
            // SAFETY: not NULL, written above.
            unsafe { request.write(ticket.as_pointer()) };
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn iflush(
    comm: Pointer,
    count: c_int,
    data: Pointers,
    sizes: *mut c_int,
    memories: Pointers,
    request: Pointers,
) -> NcclResult {
    guard("iflush", || {
        // SAFETY: where the core wants the request; NULL says that there is nothing to wait for.
        unsafe { write("iflush", "the request", request, null_mut()) }?;
        if data.is_null() || sizes.is_null() || memories.is_null() {
            return Err(null("iflush", "an array"));
        }
        // SAFETY: made by `accept`, not closed.
        let comm = unsafe { given::<Comm>("iflush", "the connection", comm) }?;
        // The last that was written is enough: see `Comm::flush`.
        let written = (0..usize::try_from(count).unwrap_or(0)).rev().find_map(|index| {
            // SAFETY: the core's arrays have `count` entries; a memory handle is NULL or made by `register`.
            let part = unsafe {
                Incoming {
                    tag: 0,
                    data: data.add(index).read().cast(),
                    room: u64::try_from(sizes.add(index).read()).unwrap_or(0),
                    memory: memories.add(index).read().cast::<Memory>().as_ref(),
                }
            };
            (part.room > 0).then_some(part)
        });
        if let Some(part) = written
            && let Some(ticket) = comm.flush(&part)?
        {
            // SAFETY: not NULL, written above.
            unsafe { request.write(ticket.as_pointer()) };
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn test(request: Pointer, done: *mut c_int, sizes: *mut c_int) -> NcclResult {
    guard("test", || {
        // SAFETY: where the core wants the answer.
        unsafe { write("test", "the answer", done, 0) }?;
        // SAFETY: a request of a connection that is not closed.
        let ticket = unsafe { given::<Ticket>("test", "the request", request) }?;
        if let Some(outcome) = ticket.test()? {
            if !sizes.is_null() {
                for (index, bytes) in outcome.bytes[..outcome.parts].iter().enumerate() {
                    // SAFETY: the core has room for the sizes of all parts of the request.
                    unsafe { sizes.add(index).write(*bytes as c_int) };
                }
            }
            // SAFETY: not NULL, written above.
            unsafe { done.write(1) };
        }
        Ok(())
    })
}

pub(super) unsafe extern "C" fn close_comm(comm: Pointer) -> NcclResult {
    guard("close", || {
        if comm.is_null() {
            return Err(null("close", "the connection"));
        }
        // SAFETY: made by `connect` or `accept`, closed once; the core uses none of its requests any more.
        unsafe { take_back::<Comm>(comm) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn close_listen(listener: Pointer) -> NcclResult {
    guard("closeListen", || {
        if listener.is_null() {
            return Err(null("closeListen", "the listener"));
        }
        // SAFETY: made by `listen`, closed once.
        unsafe { take_back::<Listener>(listener) };
        Ok(())
    })
}
