//! The tools of the system: which are needed, and how one is run.

use std::path::Path;
use std::process::Command;

use crate::error::HostsError;

const TOOLS: [&str; 9] = ["ip", "setsid", "unshare", "nsenter", "mount", "ssh", "ssh-keygen", "sshd", "ps"];

/// Root and every tool, or the error that says what is missing.
pub(crate) fn check() -> Result<(), HostsError> {
    if !rustix::process::geteuid().is_root() {
        return Err(HostsError::NotRoot);
    }
    TOOLS.iter().try_for_each(|tool| find(tool).map(|_| ()))
}

/// The full path of a tool. sshd insists on being started by one, and sbin is not on everyone's PATH.
pub(crate) fn find(tool: &'static str) -> Result<String, HostsError> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .filter(|folder| !folder.is_empty())
        .map(|folder| format!("{folder}/{tool}"))
        .find(|file| Path::new(file).is_file())
        .ok_or(HostsError::MissingTool { tool })
}

/// Runs `tool` with arguments separated by blanks; what it printed is the error.
pub(crate) fn run(tool: &'static str, arguments: &str) -> Result<(), HostsError> {
    run_words(tool, &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Runs `tool`; what it printed is the error.
pub(crate) fn run_words(tool: &'static str, arguments: &[&str]) -> Result<(), HostsError> {
    let printed = format!("{tool} {}", arguments.join(" "));
    let output = Command::new(find(tool)?)
        .args(arguments)
        .output()
        .map_err(|source| HostsError::Start { command: printed.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(HostsError::Command { command: printed, output: text })
}
