//! Writes `crates/verbs/src/sys.rs` from the installed `<infiniband/verbs.h>`: types and constants, no functions (those
//! are found at run time). bindgen's layout checks become compile-time assertions. Run by `make bindings`.

const TYPES: &[&str] = &[
    "ibv_async_event",
    "ibv_context",
    "ibv_cq",
    "ibv_device",
    "ibv_device_attr",
    "ibv_gid",
    "ibv_gid_entry",
    "ibv_mr",
    "ibv_pd",
    "ibv_port_attr",
    "ibv_qp",
    "ibv_qp_attr",
    "ibv_qp_init_attr",
    "ibv_recv_wr",
    "ibv_send_wr",
    "ibv_sge",
    "ibv_wc",
    "ibv_access_flags",
    "ibv_qp_attr_mask",
    "ibv_gid_type",
    "ibv_send_flags",
    "ibv_wc_flags",
];

fn main() {
    let mut builder = bindgen::Builder::default()
        .header_contents("all.h", "#include <infiniband/verbs.h>")
        .ignore_functions()
        .prepend_enum_name(false)
        .derive_default(true)
        .merge_extern_blocks(true)
        .use_core()
        .formatter(bindgen::Formatter::Rustfmt)
        .raw_line("//! Types of `<infiniband/verbs.h>`, written by `make bindings`; not edited by hand.");
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/sys.rs");
    builder
        .generate()
        .expect("libibverbs-dev and libclang are needed")
        .write_to_file(target)
        .expect("src/sys.rs can be written");
    println!("wrote {target}");
}
