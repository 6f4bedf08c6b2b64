//! The kernel as it lies in memory. Its package has it compressed, and unpacking it would take the emulated processor
//! minutes; so it is unpacked here and entered behind its own unpacker.

use std::fs;
use std::path::Path;
use std::process::Command;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::error::Error;
use crate::tools;

/// The note that names the entry of Xen's PVH protocol (xen/include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;

/// Where Debian's kernels are linked to lie.
pub(crate) const ADDRESS: usize = 0x100_0000;

#[derive(Debug)]
pub(crate) struct Kernel {
    /// What lies at [`ADDRESS`] and behind it.
    pub(crate) memory: Vec<u8>,
    /// Where it is entered.
    pub(crate) entry: u32,
}

/// Unpacks the kernel of a bzImage.
pub(crate) fn unpack(image: &Path, folder: &Path) -> Result<Kernel, Error> {
    let reading = || format!("reading {}", image.display());
    let bytes = fs::read(image).map_err(Error::step(reading()))?;
    let packed = packed(&bytes).ok_or_else(|| unfit(image, "what is packed in it was not found"))?;
    fs::write(folder.join("packed.xz"), packed).map_err(Error::step("writing the packed kernel"))?;
    // Behind what is packed its size is written, which is not xz's.
    let unpacked = tools::output(Command::new("xz").args(["-dc", "--single-stream", "packed.xz"]), folder)?;
    parse(&unpacked).map_err(|cause| unfit(image, cause))
}

fn unfit(image: &Path, cause: &'static str) -> Error {
    Error::Kernel(image.display().to_string(), cause)
}

/// What a bzImage has packed (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
fn packed(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let start = (usize::from(*image.get(0x1f1)?) + 1) * 512 + word(0x248)?;
    image.get(start..start + word(0x24c)?)
}

fn parse(unpacked: &[u8]) -> Result<Kernel, &'static str> {
    let elf = FileHeader64::<LittleEndian>::parse(unpacked).map_err(|_| "it is not an ELF file")?;
    let headers = elf.program_headers(LittleEndian, unpacked).map_err(|_| "its headers are damaged")?;
    let mut memory = Vec::new();
    let mut entry = None;
    for header in headers {
        if header.p_type(LittleEndian) == PT_LOAD {
            let bytes = header.data(LittleEndian, unpacked).map_err(|()| "a segment is damaged")?;
            let start = (header.p_paddr(LittleEndian) as usize).checked_sub(ADDRESS);
            let start = start.ok_or("it is linked to another address")?;
            memory.resize(memory.len().max(start + bytes.len()), 0);
            memory[start..start + bytes.len()].copy_from_slice(bytes);
        }
        if let Ok(Some(mut notes)) = header.notes(LittleEndian, unpacked) {
            while let Ok(Some(note)) = notes.next() {
                if note.name() == b"Xen" && note.n_type(LittleEndian) == PHYS32_ENTRY {
                    entry = note.desc().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
                }
            }
        }
    }
    // Memory is zero where nothing was read into it.
    memory.truncate(memory.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    Ok(Kernel { memory, entry: entry.ok_or("it cannot be entered by Xen's PVH protocol")? })
}
