//! What was done for logins, kept in the state folder of this machine, and how it is taken back.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::feed;
use crate::agent::on_node;
use crate::config::{Config, Node};
use crate::configure::ConfigureError;
use crate::error::ClusterError;
use crate::state::{Folder, replace};

/// Takes exactly that line out again, and a file that is empty then.
const REMOVE: &str = "read -r key; file=~/.ssh/authorized_keys; [ -f $file ] || exit 0; umask 077; \
    grep -vxF \"$key\" $file >$file.halo-new; [ $? -le 1 ] && cat $file.halo-new >$file; status=$?; \
    rm -f $file.halo-new; [ -s $file ] || rm -f $file; exit $status";

/// What was done for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    target: String,
    /// The key that was copied there; none if it was there before.
    pub key: Option<String>,
    /// The file of known hosts, and the lines that ssh put into it after the person's yes.
    known_hosts: PathBuf,
    pub known: Vec<String>,
}

impl Login {
    pub fn new(target: &str, key: &str, known_hosts: &Path) -> Self {
        let (target, key) = (target.to_owned(), Some(key.to_owned()));
        Self { target, key, known_hosts: known_hosts.to_owned(), known: Vec::new() }
    }

    fn is_of(&self, node: &Node) -> bool {
        Some(&self.target) == node.ssh.as_ref()
    }
}

fn read(folder: &Folder) -> Vec<Login> {
    let text = fs::read_to_string(folder.logins()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(folder: &Folder, logins: &[Login]) -> Result<(), ClusterError> {
    let text = serde_json::to_string_pretty(logins).unwrap_or_default();
    replace(&folder.logins(), &text).map_err(|source| folder.refuse(source))
}

/// Before it is done.
pub fn add(folder: &Folder, login: &Login) -> Result<(), ClusterError> {
    let mut logins = read(folder);
    logins.push(login.clone());
    write(folder, &logins)
}

/// What came of the last one that was added.
pub fn settle(folder: &Folder, login: Login) -> Result<(), ClusterError> {
    let mut logins = read(folder);
    logins.pop();
    if login.key.is_some() || !login.known.is_empty() {
        logins.push(login);
    }
    write(folder, &logins)
}

/// What is to be taken back on these nodes (all if none is named), a line each.
pub fn names(config: &Config, names: &[String]) -> Result<Vec<String>, ClusterError> {
    let logins = read(&Folder::open()?);
    let mut lines = Vec::new();
    for node in config.nodes().filter(|node| names.is_empty() || names.contains(&node.name)) {
        for login in logins.iter().filter(|login| login.is_of(node)) {
            if login.key.is_some() {
                lines.push(format!("{}: take back: this machine's public key", node.name));
            }
            if !login.known.is_empty() {
                lines.push(format!(
                    "{}: take back: its host key in {}",
                    node.name,
                    login.known_hosts.display()
                ));
            }
        }
    }
    Ok(lines)
}

/// Takes back what was done for these nodes, of which each still lets in: all keys first, for which hosts must be known.
pub fn undo(config: &Config, names: &[String]) -> Result<(), ClusterError> {
    let folder = Folder::open()?;
    let mut logins = read(&folder);
    let asked = |node: &&Node| names.is_empty() || names.contains(&node.name);
    for node in config.nodes().filter(asked) {
        while let Some(login) = logins.iter_mut().find(|login| login.is_of(node) && login.key.is_some()) {
            let key = login.key.take().unwrap_or_default();
            feed(&mut on_node(config, node, &["sh", "-c", REMOVE]), &key)
                .map_err(|cause| ConfigureError::Undo { node: node.name.clone(), cause })?;
            write(&folder, &logins)?;
            println!("{}: taken back: this machine's public key", node.name);
        }
    }
    for node in config.nodes().filter(asked) {
        while let Some(at) = logins.iter().position(|login| login.is_of(node)) {
            let login = logins.remove(at);
            if !login.known.is_empty() {
                forget(&login).map_err(|source| folder.refuse(source))?;
                println!("{}: taken back: its host key", node.name);
            }
            write(&folder, &logins)?;
        }
    }
    Ok(())
}

/// Removes the lines that ssh added for it.
fn forget(login: &Login) -> std::io::Result<()> {
    let text = match fs::read_to_string(&login.known_hosts) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let stays = |line: &&str| !login.known.iter().any(|known| known == line);
    let text = text.lines().filter(stays).fold(String::new(), |text, line| text + line + "\n");
    // Where it really lies, if it is a link.
    replace(&fs::canonicalize(&login.known_hosts)?, &text)
}
