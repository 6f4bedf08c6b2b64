//! The small host in C: another compiler, another declaration of the interface.

use std::process::Command;

use crate::common::{library, printed, shipped};

#[test]
fn a_host_in_c_moves_messages_through_version_8_and_version_12() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("host");
    let compiled = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/c/host.c"))
        .arg("-o")
        .arg(&program)
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", printed(&compiled));
    // As tests have it, and as `make build` leaves it, under a name that a core looks for.
    let [_, shipped, ..] = shipped();
    for library in [library(), shipped] {
        let output = Command::new(&program)
            .arg(library)
            .env("HALO_TRANSPORT", "tcp")
            .env("NCCL_SOCKET_IFNAME", "lo")
            .output()
            .unwrap();
        let printed = printed(&output);
        assert!(output.status.success(), "{printed}");
        // Twice: the library is closed and opened again between.
        assert_eq!(printed.matches("version 8: halo over lo").count(), 2, "{printed}");
        assert_eq!(printed.matches("version 12: halo over lo").count(), 2, "{printed}");
    }
}
