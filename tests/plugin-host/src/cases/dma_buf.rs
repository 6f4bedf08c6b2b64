//! Memory that comes as a dma-buf, as a GPU's does.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use halo::plugin::abi::{PTR_CUDA, PTR_DMABUF, PTR_HOST, SYSTEM_ERROR};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{Setting, expect};
use crate::link::{Buffer, Link, complete};
use crate::plugin::{Opaque, Part, warnings};
use crate::{Outcome, pattern, until};

const BYTES: usize = 1 << 20;

/// Without the opt-in a dma-buf is refused; with it, a file that is none is refused, and neither leaves anything behind.
/// A real one is taken, or its refusal says whose it is: not every NIC's driver takes them.
pub(super) fn dma_buf(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let link = Link::new(plugin, setting.context, 0)?;
    let shared = Shared::new()?;
    let offered = plugin.properties(0)?.ptr_support & PTR_DMABUF != 0;
    let opted_in = std::env::var("HALO_PLUGIN_GPU_DIRECT").is_ok_and(|value| value == "1");
    expect("a dma-buf is never offered unasked", opted_in || !offered)?;
    let files = open_files()?;
    let file = shared.file.as_raw_fd();
    // Host memory goes through the same door, where the door is open.
    let kinds: &[i32] = if offered { &[PTR_CUDA] } else { &[PTR_CUDA, PTR_HOST] };
    for round in 0..20 {
        for (comm, file) in [(link.send, file), (link.receive, file), (link.receive, -1)] {
            for kind in kinds {
                let before = warnings().len();
                let answer = plugin.register_dma_buf(comm, shared.data, BYTES, *kind, file);
                let told = warnings().split_off(before);
                let why = format!("round {round}, file {file}, kind {kind}: {answer:?}, {told:?}");
                expect(&why, answer.is_err_and(|refused| refused.code == SYSTEM_ERROR))?;
                expect(&why, told.len() == 1 && told[0].contains("HALO-E0815"))?;
                let cause = match (offered, file) {
                    (false, _) => "GPU-direct is not offered here",
                    (true, -1) => "its dma-buf is no file",
                    (true, _) => "ibv_reg_dmabuf_mr",
                };
                expect(&why, told[0].contains(cause))?;
            }
        }
    }
    expect("no file is left open", open_files()? == files)?;
    println!("dma-buf: what is none is refused, offered: {offered}");
    if offered {
        match shared.as_dma_buf() {
            Ok(real) => real_one(&link, &shared, &real)?,
            Err(error) => println!("no real dma-buf was tried: /dev/udmabuf: {error}"),
        }
        expect("no file is left open behind a real one", open_files()? == files)?;
    }
    // None of that has hurt the connection.
    link.exchange(100_000, 1)?;
    link.close()
}

fn real_one(link: &Link<'_>, shared: &Shared, real: &OwnedFd) -> Outcome {
    let plugin = link.plugin;
    let before = warnings().len();
    let memory = match plugin.register_dma_buf(link.receive, shared.data, BYTES, PTR_CUDA, real.as_raw_fd()) {
        Ok(memory) => memory,
        Err(refused) => {
            let told = warnings().split_off(before);
            println!("a real dma-buf is refused: {told:?}");
            let unsupported =
                told.len() == 1 && told[0].contains("HALO-E0815") && told[0].contains("not supported");
            return expect("a driver without dma-buf says so", refused.code == SYSTEM_ERROR && unsupported);
        }
    };
    receive_into(link, shared, memory)?;
    plugin.deregister(link.receive, memory)?;
    println!("a real dma-buf is taken");
    Ok(())
}

fn receive_into(link: &Link<'_>, shared: &Shared, memory: Opaque) -> Outcome {
    let plugin = link.plugin;
    let mut source = Buffer::new(plugin, link.send, BYTES)?;
    pattern::fill(source.bytes(), 6);
    let part = Part { data: shared.data, room: BYTES, tag: 0, memory };
    let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
    let (data, from) = (source.bytes().as_ptr(), source.memory);
    let send = until("a send", || Ok(plugin.send(link.send, data, BYTES, 0, from)?))?;
    complete(plugin, &[receive, send])?;
    if let Some(flush) = plugin.flush(link.receive, &part)? {
        complete(plugin, &[flush])?;
    }
    // SAFETY: mapped as long as `shared` lives, and nothing writes there any more.
    Ok(pattern::check(unsafe { std::slice::from_raw_parts(shared.data, BYTES) }, 6)?)
}

/// How many files this process has open.
fn open_files() -> Outcome<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Memory that has a file, which is not a dma-buf.
struct Shared {
    file: OwnedFd,
    data: *mut u8,
}

impl Shared {
    fn new() -> Outcome<Self> {
        let file = memfd_create("plugin-host", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, BYTES as u64)?;
        // What /dev/udmabuf asks of its memory.
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address of the kernel's choice.
        let data = unsafe { mmap(null_mut(), BYTES, protection, MapFlags::SHARED, &file, 0) }?;
        Ok(Self { file, data: data.cast() })
    }

    /// The same memory as a dma-buf, where the kernel makes one of it.
    fn as_dma_buf(&self) -> std::io::Result<OwnedFd> {
        let maker = std::fs::OpenOptions::new().read(true).write(true).open("/dev/udmabuf")?;
        let file = self.file.as_fd().as_raw_fd() as u32;
        let create = Create { file, flags: CLOSE_ON_EXEC, offset: 0, bytes: BYTES as u64 };
        // SAFETY: the kernel's own structure for this request, which it only reads.
        Ok(unsafe { ioctl(&maker, create) }?)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; what was registered of it has been given back.
        let _ = unsafe { munmap(self.data.cast(), BYTES) };
    }
}

/// `UDMABUF_FLAGS_CLOEXEC`.
const CLOSE_ON_EXEC: u32 = 1;

/// `struct udmabuf_create`, of linux/udmabuf.h.
#[repr(C)]
struct Create {
    file: u32,
    flags: u32,
    offset: u64,
    bytes: u64,
}

// SAFETY: UDMABUF_CREATE takes this structure and answers with a new file descriptor.
unsafe impl Ioctl for Create {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<Self>(b'u', 0x42)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self).cast()
    }

    unsafe fn output_from_ptr(made: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: not negative, so a descriptor that is this process's alone.
        Ok(unsafe { OwnedFd::from_raw_fd(made) })
    }
}
