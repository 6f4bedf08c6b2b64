//! The login itself: this machine's public key on a node that still asks for a password. ssh talks to the person at the
//! terminal: it shows the node's fingerprint and asks for the password; nothing of either passes through here.

mod error;
mod record;
mod settings;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub use error::LoginError;
pub use record::{names, undo};

use crate::config::{Config, Node};
use crate::error::ClusterError;
use crate::question;
use crate::state::Folder;
use crate::survey::{Surveyed, ask};
use record::Login;
use settings::Settings;

/// Appends standard input to the keys that may log in, unless it is there; says which of both.
const APPEND: &str = "umask 077; read -r key; file=~/.ssh/authorized_keys; mkdir -p ~/.ssh && touch $file || exit 1; \
    grep -qxF \"$key\" $file && echo halo: present && exit; \
    [ -z \"$(tail -c1 $file)\" ] || echo >>$file; echo \"$key\" >>$file || exit 1; \
    command -v restorecon >/dev/null && restorecon -F ~/.ssh $file >/dev/null 2>&1; echo halo: added";

/// What is to be done to one node.
#[derive(Debug)]
pub struct Plan {
    target: String,
    settings: Settings,
    /// The public key; none if it is still to be made.
    key: Option<String>,
    /// Its file, without `.pub`.
    file: PathBuf,
}

impl Plan {
    pub fn new(config: &Config, node: &Node, target: &str) -> Result<Self, ClusterError> {
        let settings = settings::ask(config, target)?;
        let (file, key) = settings.key().ok_or_else(|| LoginError::NoKeyFile { node: node.name.clone() })?;
        Ok(Self { target: target.to_owned(), settings, key, file })
    }

    /// As the other steps of `configure` are shown.
    pub fn show(&self) -> String {
        let mut text = "  login: let this machine in by its key\n".to_owned();
        let file = self.file.display();
        if self.key.is_none() {
            text += &format!("    $ ssh-keygen -q -t ed25519 -N '' -f {file}\n");
        }
        let key = self.key.as_deref().unwrap_or("the public half of the new key");
        text + &format!(
            "    --- ~/.ssh/authorized_keys of {}\n    +{key}\n    \
             ssh asks for the password, and shows the fingerprint of a host that {} does not have\n",
            self.target,
            self.settings.known_hosts.display()
        )
    }
}

/// What a node that refused the login is like, after this machine's key was copied to it, if that is wanted.
pub fn offer(
    config: &Config,
    index: usize,
    refused: ClusterError,
    wanted_anyway: bool,
) -> Result<Surveyed, ClusterError> {
    let node = config.nodes[index].get_ref();
    let (true, Some(target)) = (question::can_be_asked(), &node.ssh) else { return Err(refused) };
    let plan = Plan::new(config, node, target)?;
    print!("{}:\n{}", node.name, plan.show());
    let question = format!("Copy this machine's public key to {}, so that it lets you in?", node.name);
    if !wanted_anyway && !question::yes(&question) {
        return Err(refused);
    }
    copy(config, node, plan)?;
    match ask(config, index, node) {
        Err(ClusterError::LoginRefused { cause, .. }) => {
            Err(LoginError::StillRefused { node: node.name.clone(), cause }.into())
        }
        other => other,
    }
}

/// Copies the key, with the person's help.
fn copy(config: &Config, node: &Node, plan: Plan) -> Result<(), ClusterError> {
    let folder = Folder::open()?;
    let key = match plan.key {
        Some(key) => key,
        None => settings::make_key(node, &plan.file)?,
    };
    let known = plan.settings.known();
    // What is to be taken back is on disk before it is done.
    let mut login = Login::new(&plan.target, &key, &plan.settings.known_hosts);
    record::add(&folder, &login)?;
    let mut command = Command::new("ssh");
    command.args(&config.ssh.options).args(["-T", "--", &plan.target]);
    command.arg(shlex::try_join(["sh", "-c", APPEND]).unwrap_or_default());
    let said = feed(&mut command, &key);
    // A fingerprint that was accepted is known, whatever came of the password.
    login.known = plan.settings.known().into_iter().filter(|line| !known.contains(line)).collect();
    let added = said.as_ref().is_ok_and(|said| said.lines().any(|line| line == "halo: added"));
    if !added {
        // It was there before, or it never came there.
        login.key = None;
    }
    record::settle(&folder, login)?;
    said.map_err(|cause| LoginError::Copy { node: node.name.clone(), cause })?;
    Ok(())
}

/// Runs `command` with the key on its standard input; what it prints, or how it ended.
fn feed(command: &mut Command, key: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", command.get_program().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A failure to write shows in the exit status.
        let _ = stdin.write_all(format!("{key}\n").as_bytes());
    }
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_end(&mut said);
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(String::from_utf8_lossy(&said).into_owned()),
        Ok(status) => Err(format!("ssh ended with {status}; its words are above")),
        Err(error) => Err(error.to_string()),
    }
}
