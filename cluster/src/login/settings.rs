//! What ssh would do for a target: which keys it offers, where it keeps the hosts that it knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::LoginError;
use crate::config::{Config, Node};
use crate::error::ClusterError;

/// ssh's own configuration, as it reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    identities: Vec<PathBuf>,
    pub known_hosts: PathBuf,
}

/// Asks ssh.
pub fn ask(config: &Config, target: &str) -> Result<Settings, ClusterError> {
    let mut command = Command::new("ssh");
    command.args(&config.ssh.options).args(["-G", "--", target]).stdin(Stdio::null());
    let output =
        command.output().map_err(|source| ClusterError::Start { program: "ssh".to_owned(), source })?;
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    Ok(read(&String::from_utf8_lossy(&output.stdout), &home))
}

fn read(text: &str, home: &Path) -> Settings {
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).collect()
    };
    let path = |value: &str| value.strip_prefix("~/").map_or_else(|| value.into(), |rest| home.join(rest));
    let known = values("userknownhostsfile");
    let first =
        known.first().and_then(|files| files.split_whitespace().next()).unwrap_or("~/.ssh/known_hosts");
    Settings {
        identities: values("identityfile").iter().map(|value| path(value)).collect(),
        known_hosts: path(first),
    }
}

fn public(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.pub", file.display()))
}

fn key_in(file: &Path) -> Option<String> {
    let text = fs::read_to_string(public(file)).ok()?;
    text.lines().next().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty())
}

impl Settings {
    /// The first key that ssh offers, and its file; the file of one to be made if there is none.
    pub fn key(&self) -> Option<(PathBuf, Option<String>)> {
        let mut there = self.identities.iter().filter_map(|file| Some((file.clone(), Some(key_in(file)?))));
        there.next().or_else(|| {
            let mut free: Vec<_> = self.identities.iter().filter(|file| !file.exists()).collect();
            free.sort_by_key(|file| !file.ends_with("id_ed25519"));
            free.first().map(|file| ((*file).clone(), None))
        })
    }

    /// The hosts that it knows, a line each.
    pub fn known(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.known_hosts).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Makes a key pair without a passphrase; its public half. It stays when the rest is taken back.
pub fn make_key(node: &Node, file: &Path) -> Result<String, ClusterError> {
    let failed = |cause: String| ClusterError::from(LoginError::Copy { node: node.name.clone(), cause });
    if let Some(folder) = file.parent() {
        use std::os::unix::fs::DirBuilderExt;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed(format!("{} cannot be made: {error}", folder.display())))?;
    }
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|source| ClusterError::Start { program: "ssh-keygen".to_owned(), source })?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let key = key_in(file).filter(|_| output.status.success());
    key.ok_or_else(|| failed(format!("ssh-keygen ended with {}: {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_says_which_key_it_would_offer_and_where_it_knows_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let text = "user me\nidentityfile ~/.ssh/id_rsa\nidentityfile \
                    ~/.ssh/id_ed25519\nuserknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n";
        let settings = read(text, folder.path());
        let ssh = folder.path().join(".ssh");
        assert_eq!(settings.known_hosts, ssh.join("known_hosts"));
        assert_eq!(settings.key(), Some((ssh.join("id_ed25519"), None)), "an ed25519 key is made");
        fs::create_dir(&ssh).unwrap();
        // A private key without its public half is not overwritten.
        fs::write(ssh.join("id_ed25519"), "private").unwrap();
        assert_eq!(settings.key(), Some((ssh.join("id_rsa"), None)));
        fs::write(ssh.join("id_rsa"), "private").unwrap();
        assert_eq!(settings.key(), None);
        fs::write(ssh.join("id_ed25519.pub"), "ssh-ed25519 AAAA me\n").unwrap();
        assert_eq!(settings.key(), Some((ssh.join("id_ed25519"), Some("ssh-ed25519 AAAA me".to_owned()))));
        assert_eq!(read("", folder.path()).known_hosts, ssh.join("known_hosts"));
    }
}
