//! Programs of this machine that do a step each.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;

const TOOLS: &[&str] = &["bochs-bin", "setpriv", "busybox", "cpio", "xz", "cc", "strip"];

/// Whether all that is needed is there.
pub(crate) fn check() -> Result<(), Error> {
    let missing: Vec<&str> = TOOLS.iter().filter(|tool| find(tool).is_none()).copied().collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTools { missing: missing.join(", ") }) }
}

/// Where a program lies.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.exists())
}

/// What a program writes, run in `folder`.
pub(crate) fn output(command: &mut Command, folder: &Path) -> Result<Vec<u8>, Error> {
    let what = format!("{command:?}");
    let done =
        command.current_dir(folder).stdin(Stdio::null()).output().map_err(Error::step(what.clone()))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let cause = format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    Err(Error::Step { what, cause })
}
