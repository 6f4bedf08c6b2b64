//! The small print of the interface.

use std::ffi::c_void;
use std::ptr::null_mut;

use halo::plugin::abi::{INVALID_ARGUMENT, INVALID_USAGE, PTR_CUDA, SYSTEM_ERROR};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::{Setting, expect, refused};
use crate::link::{Buffer, Link, complete};
use crate::plugin::{Opaque, Part, Refused, warnings};
use crate::{Outcome, pattern, until};

/// Messages of no bytes, with and without memory behind them.
pub(super) fn nothing(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let none = Opaque(null_mut());
    let mut target = Buffer::new(plugin, link.receive, 64)?;
    for part in
        [target.part(64, 0), target.part(0, 0), Part { data: null_mut(), room: 0, tag: 0, memory: none }]
    {
        let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
        let send = until("a send", || Ok(plugin.send(link.send, null_mut(), 0, 0, none)?))?;
        let sizes = complete(plugin, &[receive, send])?;
        expect("no bytes are reported", sizes[0][0] == 0)?;
    }
    link.close()
}

/// A core may come in with 1 in the request, and may never ask for the sizes.
pub(super) fn optional_completion(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let (mut source, mut target) =
        (Buffer::new(plugin, link.send, 4096)?, Buffer::new(plugin, link.receive, 4096)?);
    for number in 0..100 {
        pattern::fill(source.bytes(), number);
        let part = target.part(4096, 0);
        // The host puts 1 there before every call; what comes back is NULL or a request, never 1.
        let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
        expect("the request is written", receive.0 != crate::plugin::OPTIONAL_COMPLETION)?;
        let (data, memory) = (source.bytes().as_ptr(), source.memory);
        let send = until("a send", || Ok(plugin.send(link.send, data, 4096, 0, memory)?))?;
        until("a completion", || Ok(plugin.test_without_sizes(receive)?.then_some(())))?;
        until("the send", || Ok(plugin.test_without_sizes(send)?.then_some(())))?;
        pattern::check(target.bytes(), number)?;
    }
    link.close()
}

/// A message larger than its receive is an error that says so, once, and the connection stays failed.
pub(super) fn truncation(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    for (bytes, room) in [(200usize, 100usize), (1 << 20, 1000)] {
        let link = Link::new(plugin, setting.context, setting.device)?;
        let (mut source, mut target) =
            (Buffer::new(plugin, link.send, bytes)?, Buffer::new(plugin, link.receive, room)?);
        let part = target.part(room, 0);
        let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
        let (data, memory) = (source.bytes().as_ptr(), source.memory);
        let before = warnings().len();
        let mut send = None;
        let code = until("an error", || {
            if send.is_none() {
                match plugin.send(link.send, data, bytes, 0, memory) {
                    Ok(request) => send = request,
                    Err(refused) => return Ok(Some(refused.code)),
                }
            }
            match plugin.test(receive) {
                Ok(None) => Ok(None),
                Ok(Some(sizes)) => Err(format!("{} bytes arrived in {room}", sizes[0]).into()),
                Err(refused) => Ok(Some(refused.code)),
            }
        })?;
        expect("truncation is wrong usage", code == INVALID_USAGE)?;
        let told = warnings().split_off(before);
        let words = format!("a message of {bytes} bytes with tag 0 meets a receive of {room} bytes");
        expect(
            &format!("one warning with both sizes: {told:?}"),
            told.len() == 1 && told[0].contains(&words),
        )?;
        link.close()?;
    }
    Ok(())
}

/// Calls that make no sense are refused with a code and a line; nothing crashes.
pub(super) fn arguments(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let none = Opaque(null_mut());
    let mut buffer = Buffer::new(plugin, link.receive, 100)?;
    let (data, memory) = (buffer.bytes().as_mut_ptr(), buffer.memory);
    let wrong: Vec<(&str, Result<(), Refused>)> = vec![
        ("no device", plugin.listen(setting.context, 99).map(|_| ())),
        ("a handle of zeroes", plugin.connect(setting.context, setting.device, &mut [0; 128]).map(|_| ())),
        ("no listener", plugin.accept(none).map(|_| ())),
        ("no connection to register with", plugin.register(none, data, 100).map(|_| ())),
        ("no connection to send on", plugin.send(none, data, 1, 0, memory).map(|_| ())),
        ("send on a receiver", plugin.send(link.receive, data, 1, 0, memory).map(|_| ())),
        ("receive on a sender", plugin.receive(link.send, &[buffer.part(1, 0)]).map(|_| ())),
        ("beyond the memory", plugin.send(link.send, data, 101, 0, memory).map(|_| ())),
        ("bytes at NULL", plugin.send(link.send, null_mut(), 5, 0, none).map(|_| ())),
        ("no receives", plugin.receive(link.receive, &[]).map(|_| ())),
        ("nine receives", plugin.receive(link.receive, &[buffer.part(1, 0); 9]).map(|_| ())),
        ("no request", plugin.test(none).map(|_| ())),
        ("close of nothing", plugin.close_send(none)),
        ("close of no listener", plugin.close_listen(none)),
    ];
    for (what, answer) in wrong {
        expect(&format!("{what}: {answer:?}"), refused(answer, INVALID_ARGUMENT))?;
    }
    if std::env::var_os("HALO_PLUGIN_GPU_DIRECT").is_none() {
        let gpu = plugin.register_as(link.receive, data, 100, PTR_CUDA);
        expect(&format!("GPU memory without the opt-in: {gpu:?}"), refused(gpu, SYSTEM_ERROR))?;
    }
    let told = warnings();
    expect(
        "each was told, with its code",
        told.iter().filter(|line| line.contains("HALO-E08")).count() >= 14,
    )?;
    // None of that has hurt the connection.
    link.exchange(1000, 1)?;
    link.close()
}

/// Memory registered with one connection is used with another, and registered twice is given back twice.
pub(super) fn shared_memory_handle(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let (first, second) = (
        Link::new(plugin, setting.context, setting.device)?,
        Link::new(plugin, setting.context, setting.device)?,
    );
    let mut bytes = vec![0u8; 1 << 20];
    let whole = plugin.register(first.send, bytes.as_mut_ptr(), bytes.len())?;
    let again = plugin.register(second.receive, bytes.as_mut_ptr(), bytes.len())?;
    let inner = plugin.register(second.send, bytes[4096..].as_mut_ptr(), 8192)?;
    pattern::fill(&mut bytes[..100_000], 1);
    let part = Part { data: bytes[500_000..].as_mut_ptr(), room: 100_000, tag: 0, memory: again };
    let receive = until("a receive", || Ok(plugin.receive(second.receive, &[part])?))?;
    let send = until("a send", || Ok(plugin.send(second.send, bytes.as_ptr(), 100_000, 0, whole)?))?;
    // Given back while it is in use, by both of its names: the requests hold what they need.
    plugin.deregister(first.send, whole)?;
    plugin.deregister(second.receive, again)?;
    complete(plugin, &[send, receive])?;
    pattern::check(&bytes[500_000..600_000], 1)?;
    plugin.deregister(second.send, inner)?;
    first.close()?;
    second.close()
}

/// Memory that was given back and is other pages now is registered anew, although a receive still holds what it was.
pub(super) fn memory_again(setting: &Setting<'_>) -> Outcome {
    const BYTES: usize = 1 << 20;
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let map = |at: *mut c_void, flags| {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory, at an address of the kernel's choice or in place of this case's own.
        unsafe { mmap_anonymous(at, BYTES, protection, MapFlags::PRIVATE | flags) }
    };
    let data = map(null_mut(), MapFlags::empty())?.cast::<u8>();
    let memory = plugin.register(link.receive, data, BYTES)?;
    // Nobody sends with this tag: the receive waits until the connection is closed.
    let waiting = Part { data, room: BYTES, tag: 99, memory };
    until("a receive", || Ok(plugin.receive(link.receive, &[waiting])?))?;
    plugin.deregister(link.receive, memory)?;
    // As an allocator may have it: the same address, but not the same memory.
    map(data.cast(), MapFlags::FIXED)?;
    let memory = plugin.register(link.receive, data, BYTES)?;
    let mut source = Buffer::new(plugin, link.send, BYTES)?;
    pattern::fill(source.bytes(), 4);
    let part = Part { data, room: BYTES, tag: 3, memory };
    let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
    let (from, registered) = (source.bytes().as_ptr(), source.memory);
    let send = until("a send", || Ok(plugin.send(link.send, from, BYTES, 3, registered)?))?;
    complete(plugin, &[send, receive])?;
    // SAFETY: mapped above, and nothing writes there any more.
    pattern::check(unsafe { std::slice::from_raw_parts(data, BYTES) }, 4)?;
    plugin.deregister(link.receive, memory)?;
    drop(source);
    link.close()?;
    // SAFETY: mapped above, given back once.
    unsafe { munmap(data.cast(), BYTES)? };
    Ok(())
}

/// A flush has nothing to do for host memory; with GPU-direct it is a request that completes.
pub(super) fn flush(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, setting.device)?;
    let mut buffer = Buffer::new(plugin, link.receive, 4096)?;
    expect("no flush for host memory", plugin.flush(link.receive, &buffer.part(4096, 0))?.is_none())?;
    if plugin.properties(setting.device)?.ptr_support & PTR_CUDA != 0 {
        // Host memory in place of a GPU's: what the NIC does is the same.
        let mut bytes = vec![0u8; 1 << 20];
        let memory = plugin.register_as(link.receive, bytes.as_mut_ptr(), bytes.len(), PTR_CUDA)?;
        let mut source = Buffer::new(plugin, link.send, bytes.len())?;
        for number in 0..20 {
            pattern::fill(source.bytes(), number);
            let part = Part { data: bytes.as_mut_ptr(), room: bytes.len(), tag: 0, memory };
            let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
            let (data, from) = (source.bytes().as_ptr(), source.memory);
            let send = until("a send", || Ok(plugin.send(link.send, data, part.room, 0, from)?))?;
            complete(plugin, &[receive, send])?;
            let flush = plugin.flush(link.receive, &part)?.ok_or("a flush of GPU memory is a request")?;
            complete(plugin, &[flush])?;
            pattern::check(&bytes, number)?;
        }
        println!("20 flushes");
    }
    link.close()
}
