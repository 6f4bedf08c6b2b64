//! Files that a measurement leaves.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::Error;

/// Refuses a file that cannot be written, before anything is measured for it. What it has is left as it is.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let existed = path.exists();
    if existed && !path.is_file() && !path.is_dir() {
        // Whoever reads from a pipe would take this look for all there is.
        return Ok(());
    }
    OpenOptions::new().append(true).create(true).open(path).map_err(|error| refusal(path, &error))?;
    if !existed {
        fs::remove_file(path).map_err(|error| refusal(path, &error))?;
    }
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| refusal(path, &error))
}

fn refusal(path: &Path, error: &io::Error) -> Error {
    Error::ResultFile { path: path.display().to_string(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        check(&path).unwrap();
        assert!(!path.exists());
        write(&path, "earlier").unwrap();
        check(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "earlier");
        let told = check(folder.path()).unwrap_err().to_string();
        assert!(told.contains("cannot be written"), "a folder is no file: {told}");
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // Opened, it would wait for a reader.
        check(&pipe).unwrap();
    }
}
