//! How the shared library is linked.

fn main() {
    // RCCL and NCCL unload a plugin and load it again, while its threads' exit handlers and its connections' pages
    // are still there: the library stays where it is.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
