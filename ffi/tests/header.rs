//! `include/halo.h` says what the exported functions are.

use std::path::Path;

#[test]
fn the_header_is_written_from_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order a reader wants them: what calls answer, then what they are given, then the calls.
    for file in [
        "version",
        "status",
        "types",
        "config",
        "request",
        "store",
        "communicator",
        "registration",
        "allocation",
        "collectives",
        "queue",
    ] {
        builder = builder.with_src(folder.join(format!("src/c_api/{file}.rs")));
    }
    let mut written = Vec::new();
    builder.generate().unwrap().write(&mut written);
    // What Rust calls safety is, to a C programmer, what the call relies on.
    let written = String::from_utf8(written).unwrap().replace(" * # Safety", " * The call relies on:");
    let path = folder.join("include/halo.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), written, "run `make header`");
}
