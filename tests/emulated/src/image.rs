//! What the emulated machine starts from: a disk with the initramfs and the kernel, and a ROM that reads it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bochs::{INSTRUCTIONS_PER_SECOND, MEMORY};
use crate::error::Error;
use crate::{kernel, tools};

const INIT: &str = include_str!("../guest/init.sh");
const START: &str = include_str!("../guest/start.S");

/// Below this there are the first MiB's peculiarities.
const LOWEST: usize = 0x10_0000;
const PAGE: usize = 4096;
/// A cylinder, of which an emulated disk has a whole number; four reads of start.S.
const CYLINDER: usize = 16 * 63 * 512;

/// Makes `disk` and `rom` in a folder.
pub(crate) fn make(program: &Path, arguments: &[String], folder: &Path) -> Result<(), Error> {
    let vmlinuz = halo_soft_roce::kernel(halo_soft_roce::Kernel::Quick)?;
    let kernel = kernel::unpack(&vmlinuz, folder)?;
    let initramfs = initramfs(program, folder)?;
    // The initramfs lies right before the kernel, so that one read brings both.
    let room = initramfs.len().next_multiple_of(PAGE);
    if room > kernel::ADDRESS - LOWEST {
        return Err(Error::TooLarge(initramfs.len(), kernel::ADDRESS - LOWEST));
    }
    let mut disk = initramfs;
    let initramfs_bytes = disk.len();
    disk.resize(room, 0);
    disk.extend_from_slice(&kernel.memory);
    disk.resize(disk.len().next_multiple_of(CYLINDER), 0);
    fs::write(folder.join("disk"), &disk).map_err(Error::step("writing the disk"))?;
    let definitions = [
        format!("-DIMAGE={:#x}", kernel::ADDRESS - room),
        format!("-DINITRAMFS_BYTES={initramfs_bytes}"),
        format!("-DSECTORS={}", disk.len() / 512),
        format!("-DENTRY={:#x}", kernel.entry),
        format!("-DMEMORY={MEMORY:#x}"),
        format!("-DCOMMAND_LINE={:?}", command_line(arguments)),
    ];
    fs::write(folder.join("start.S"), START).map_err(Error::step("writing start.S"))?;
    let link = "-Wl,-Ttext=0xf0000,-e,0xf0000,--oformat=binary,--build-id=none";
    let options = ["-m32", "-nostdlib", "-static", "-no-pie", link, "-o", "rom", "start.S"];
    tools::output(Command::new("cc").args(definitions).args(options), folder)?;
    Ok(())
}

/// What the kernel is told. What it does not know and what follows `--` it hands on to process 1, as variables and
/// arguments.
fn command_line(arguments: &[String]) -> String {
    let line = [
        "console=ttyS0,115200 loglevel=1 panic=-1",
        // There is one processor, and of its surroundings what a PC had in 1985, which asks for the least waiting.
        "nosmp acpi=off pci=off nolapic",
        // Its counter counts instructions, whatever frequency it claims to have.
        &format!("tsc_early_khz={}", INSTRUCTIONS_PER_SECOND / 1000),
        // Without the bits that say so, the kernel has no use for the compact layout of saved registers, whose size
        // Bochs 2.7 gives wrongly: the kernel would turn AVX off.
        "clearcpuid=xsavec,xsaves",
        // Each of these takes seconds, and the tests nothing from them.
        "mitigations=off rodata=off cryptomgr.notests",
        "initcall_blacklist=crypto_algapi_init,load_system_certificate_list",
        "EMULATED_BY=bochs",
    ]
    .join(" ");
    format!("{line} -- {}", arguments.join(" "))
}

/// An archive with busybox, the program and what process 1 does.
fn initramfs(program: &Path, folder: &Path) -> Result<Vec<u8>, Error> {
    let tree = folder.join("tree");
    let filling = || Error::step("filling the initramfs");
    for name in ["bin", "proc", "dev"] {
        fs::create_dir_all(tree.join(name)).map_err(filling())?;
    }
    let busybox = tools::find("busybox").unwrap_or_default();
    fs::copy(busybox, tree.join("bin/busybox")).map_err(filling())?;
    fs::write(tree.join("init"), INIT).map_err(filling())?;
    tools::output(Command::new("chmod").args(["755", "init"]), &tree)?;
    let program = program.canonicalize().map_err(Error::step(program.display().to_string()))?;
    tools::output(Command::new("strip").args(["-o", "program"]).arg(program), &tree)?;
    tools::output(Command::new("sh").args(["-c", "find . | cpio -o -H newc --quiet"]), &tree)
}
