//! What is shipped, for tests that run it: the programs as `make build` leaves them and the Python environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The checkout.
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("this crate lies in the workspace")
}

/// A folder that namespace hosts see, too: /tmp is each host's own.
pub fn scratch() -> PathBuf {
    let scratch = workspace().join("target/tmp");
    std::fs::create_dir_all(&scratch).expect("target/tmp can be made");
    scratch
}

/// A program of `target/release`, as fresh as the sources: `make build` runs once for each test program.
///
/// Built by cargo for the test alone, it would come with other features of what it depends on, and all of that would be
/// compiled again.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = Command::new("make").args(["--silent", "-C"]).arg(workspace()).arg("build").output();
        let output = output.expect("make runs");
        assert!(output.status.success(), "make build: {}", String::from_utf8_lossy(&output.stderr));
    });
    workspace().join("target/release").join(name)
}

/// The Python of `.venv`, with vLLM, Ray and halo.
pub fn python() -> PathBuf {
    let python = workspace().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup python` first", python.display());
    python
}
