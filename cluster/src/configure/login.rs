//! The login itself: this machine's public key on a node that still asks for a password. ssh talks to the person at the
//! terminal: it shows the node's fingerprint and asks for the password; nothing of either passes through here.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::error::ConfigureError;
use crate::agent::on_node;
use crate::config::{Config, Node};
use crate::error::ClusterError;
use crate::state::Folder;

/// Appends standard input to the keys that may log in, unless it is there.
const APPEND: &str = "umask 077; mkdir -p ~/.ssh; read -r key; touch ~/.ssh/authorized_keys; \
                      grep -qxF \"$key\" ~/.ssh/authorized_keys || echo \"$key\" >>~/.ssh/authorized_keys";
/// Takes exactly that line out again.
const REMOVE: &str = "read -r key; file=~/.ssh/authorized_keys; grep -vxF \"$key\" $file >$file.halo-new; \
                      cat $file.halo-new >$file; rm $file.halo-new";

/// A key that was copied to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    target: String,
    key: String,
}

fn file(folder: &Folder) -> PathBuf {
    folder.file("logins.json")
}

fn copied(folder: &Folder) -> Vec<Copied> {
    let text = std::fs::read_to_string(file(folder)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn keep(folder: &Folder, logins: &[Copied]) -> Result<(), ClusterError> {
    let text = serde_json::to_string_pretty(logins).unwrap_or_default();
    std::fs::write(file(folder), text).map_err(|source| folder.refuse(source))
}

fn failed(node: &Node, cause: impl Into<String>) -> ClusterError {
    ConfigureError::Login { node: node.name.clone(), cause: cause.into() }.into()
}

/// This user's public key; one is made if there is none.
fn public_key(node: &Node) -> Result<String, ClusterError> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let folder = PathBuf::from(home).join(".ssh");
    let find = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut keys: Vec<_> = entries
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.starts_with("id_") && path.extension().is_some_and(|extension| extension == "pub")
            })
            .collect();
        keys.sort();
        keys.first().and_then(|path| std::fs::read_to_string(path).ok()).map(|key| key.trim().to_owned())
    };
    if let Some(key) = find() {
        return Ok(key);
    }
    let private = folder.join("id_ed25519");
    println!("there is no ssh key yet: making {}", private.display());
    let made = std::fs::create_dir_all(&folder).and_then(|()| {
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&private).status()
    });
    match made {
        Ok(status) if status.success() => find().ok_or_else(|| failed(node, "ssh-keygen left no key")),
        Ok(status) => Err(failed(node, format!("ssh-keygen: {status}"))),
        Err(source) => Err(ClusterError::Start { program: "ssh-keygen".to_owned(), source }),
    }
}

/// Copies the key to `node`, with the person's help.
pub fn copy(config: &Config, node: &Node) -> Result<(), ClusterError> {
    let Some(target) = &node.ssh else { return Ok(()) };
    let folder = Folder::open()?;
    let key = public_key(node)?;
    println!(
        "{}: copying this machine's public key; ssh may ask for its fingerprint and password",
        node.name
    );
    // What is to be taken back is on disk before it is done.
    let mut logins = copied(&folder);
    let login = Copied { target: target.clone(), key: key.clone() };
    if !logins.contains(&login) {
        logins.push(login);
        keep(&folder, &logins)?;
    }
    let mut command = Command::new("ssh");
    command.args(&config.ssh.options).args(["-T", "--", target, APPEND]);
    feed(&mut command, node, &key)
}

/// The nodes that got the key from here.
pub fn names(config: &Config, names: &[String]) -> Result<Vec<String>, ClusterError> {
    let logins = copied(&Folder::open()?);
    let got = |node: &&Node| logins.iter().any(|login| Some(&login.target) == node.ssh.as_ref());
    let asked = |node: &&Node| names.is_empty() || names.contains(&node.name);
    Ok(config.nodes().filter(got).filter(asked).map(|node| node.name.clone()).collect())
}

/// Takes the keys back that were copied to these nodes, of which each still lets in.
pub fn undo(config: &Config, names: &[String]) -> Result<(), ClusterError> {
    let folder = Folder::open()?;
    let mut logins = copied(&folder);
    for node in config.nodes().filter(|node| names.is_empty() || names.contains(&node.name)) {
        let Some(at) = logins.iter().position(|login| Some(&login.target) == node.ssh.as_ref()) else {
            continue;
        };
        feed(&mut on_node(config, node, &["sh", "-c", REMOVE]), node, &logins[at].key)?;
        println!("{}: taken back: this machine's public key", node.name);
        logins.remove(at);
        keep(&folder, &logins)?;
    }
    Ok(())
}

/// Runs `command` with the key on its standard input.
fn feed(command: &mut Command, node: &Node, key: &str) -> Result<(), ClusterError> {
    let spawned = command.stdin(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|source| ClusterError::Start { program: "ssh".to_owned(), source })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A failure to write shows in the exit status.
        let _ = stdin.write_all(format!("{key}\n").as_bytes());
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(node, format!("ssh ended with {status}; its words are above"))),
        Err(error) => Err(failed(node, error.to_string())),
    }
}
