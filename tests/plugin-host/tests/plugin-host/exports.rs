//! What the library shows to those who load it.

use std::collections::BTreeSet;

use object::elf::{DF_1_NODELETE, DT_FLAGS_1, DT_NEEDED};
use object::read::elf::{Dyn, ElfFile64, FileHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::common::{library, shipped};

/// The functions that halo.h declares.
fn header() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ffi/include/halo.h");
    let text = std::fs::read_to_string(path).unwrap();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with(['*', '/'])).collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let names = code.split('(').filter_map(|before| before.rsplit(word).next());
    names.filter(|name| name.starts_with("halo_")).map(str::to_owned).collect()
}

#[test]
fn it_exports_the_plugins_tables_and_halo_h_and_nothing_else() {
    let nets = [8, 9, 10, 11, 12].map(|version| format!("ncclNetPlugin_v{version}"));
    let tuners = [2, 3, 4, 5, 6].map(|version| format!("ncclTunerPlugin_v{version}"));
    let mut wanted = header();
    assert!(wanted.contains("halo_all_reduce"), "{wanted:?}");
    wanted.extend(nets.into_iter().chain(tuners));
    for library in shipped().into_iter().chain([library()]) {
        let bytes = std::fs::read(&library).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let found: BTreeSet<String> = file
            .dynamic_symbols()
            .filter(|symbol| symbol.is_definition() && symbol.is_global())
            .map(|symbol| symbol.name().unwrap().to_owned())
            .collect();
        assert_eq!(found, wanted, "{}", library.display());
    }
}

#[test]
fn it_needs_the_c_library_alone_and_is_never_unloaded() {
    for library in shipped().into_iter().chain([library()]) {
        needs_the_c_library_alone(&library);
    }
}

#[test]
fn every_name_is_the_same_file_however_it_is_built() {
    let [file, names @ ..] = shipped();
    for name in names {
        // A link to the file beside it: what cargo puts in its place is found under every name at once.
        assert_eq!(
            std::fs::read_link(&name).unwrap(),
            std::path::Path::new("libhalo.so"),
            "{}",
            name.display()
        );
        assert_eq!(name.canonicalize().unwrap(), file.canonicalize().unwrap());
    }
}

fn needs_the_c_library_alone(library: &std::path::Path) {
    let bytes = std::fs::read(library).unwrap();
    let file = ElfFile64::<Endianness>::parse(&*bytes).unwrap();
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let (dynamic, strings) = sections.dynamic(endian, &*bytes).unwrap().expect("a dynamic section");
    let strings = sections.strings(endian, &*bytes, strings).unwrap();
    let (mut needed, mut flags) = (Vec::new(), 0);
    for entry in dynamic {
        if entry.tag(endian) == DT_NEEDED {
            needed.push(String::from_utf8_lossy(entry.string(endian, strings).unwrap()).into_owned());
        }
        if entry.tag(endian) == DT_FLAGS_1 {
            flags = u32::try_from(entry.val(endian)).unwrap_or(0);
        }
    }
    let friends =
        ["libc.so.", "libgcc_s.so.", "libm.so.", "libdl.so.", "libpthread.so.", "librt.so.", "ld-linux-"];
    for library in &needed {
        assert!(friends.iter().any(|friend| library.starts_with(friend)), "it needs {library}: {needed:?}");
    }
    assert_ne!(flags & DF_1_NODELETE, 0, "linked with -z nodelete");
    let _ = file.elf_header().endian();
}
