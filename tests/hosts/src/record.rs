//! What is up, on disk, so that another process can find it or take it down.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::HostsError;
use crate::network;

/// Not under /run or /tmp: hosts have their own, and their sshd reads its keys here.
const ROOT: &str = "/var/lib/halo-hosts";

/// Held by the process that takes down what others left behind.
const SWEEP_LOCK: &str = "/run/lock/halo-hosts";

/// One set of hosts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The name of the set; a prefix of the names of its hosts.
    pub name: String,
    /// Where its keys and logs are.
    pub folder: PathBuf,
    /// The third byte of the management network 10.77.S.0/24, unique on this machine.
    pub subnet: u8,
    /// Whose death makes the set an orphan; none when it stays until it is taken down.
    pub(crate) owner: Option<Owner>,
    /// The hosts, number 1 first.
    pub hosts: Vec<HostRecord>,
}

/// One host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its host name, its network namespace and its name for ssh.
    pub name: String,
    /// Its address for ssh.
    pub management: String,
    /// Its address on the data network.
    pub address: String,
    /// Its first process, as the machine numbers it.
    pub pid: Option<u32>,
}

/// A process, told from a later one with the same number by its start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pid: u32,
    started: String,
}

impl Owner {
    pub(crate) fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, started: start_time(pid).unwrap_or_default() }
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid).is_some_and(|started| started == self.started)
    }
}

/// Field 22 of /proc/PID/stat. The second field, the name in parentheses, may itself hold blanks.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

impl Record {
    /// Takes `name` by making its folder, which only one process can, and a management network with its bridge.
    pub(crate) fn claim(name: &str, count: usize, owner: Option<Owner>) -> Result<Self, HostsError> {
        let folder = claim_folder(name)?;
        let subnet = match network::claim_bridge() {
            Ok(subnet) => subnet,
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                return Err(error);
            }
        };
        let hosts = (1..=count)
            .map(|number| HostRecord {
                name: format!("{name}-{number}"),
                management: format!("10.77.{subnet}.{number}"),
                address: format!("192.168.100.{number}"),
                pid: None,
            })
            .collect();
        Ok(Self { name: name.to_owned(), folder, subnet, owner, hosts })
    }

    pub(crate) fn load(name: &str) -> Result<Self, HostsError> {
        read(&Path::new(ROOT).join(name)).ok_or_else(|| HostsError::NotUp { name: name.to_owned() })
    }

    /// Every set that has a record.
    ///
    /// Order: by name.
    pub fn all() -> Vec<Self> {
        let mut records: Vec<_> =
            fs::read_dir(ROOT).into_iter().flatten().filter_map(|entry| read(&entry.ok()?.path())).collect();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        records
    }

    pub(crate) fn save(&self) -> Result<(), HostsError> {
        let file = self.folder.join("record.json");
        let text = serde_json::to_string_pretty(self).expect("a record is plain data");
        fs::write(&file, text).map_err(|source| at(&file, source))
    }

    /// Gives the name back.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// The configuration for `ssh -F`.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }

    fn is_orphan(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| !owner.is_alive())
    }
}

/// Takes down what processes left behind that died without dropping their hosts.
///
/// One process at a time: a second one that swept the same set would take away what the first has since made with the
/// names that became free.
pub(crate) fn sweep_orphans() -> Result<(), HostsError> {
    let lock = File::create(SWEEP_LOCK).map_err(|source| at(Path::new(SWEEP_LOCK), source))?;
    lock.lock().map_err(|source| at(Path::new(SWEEP_LOCK), source))?;
    for record in Record::all().iter().filter(|record| record.is_orphan()) {
        crate::tear_down(record);
    }
    Ok(())
}

fn read(folder: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(folder.join("record.json")).ok()?).ok()
}

fn claim_folder(name: &str) -> Result<PathBuf, HostsError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
        return Err(HostsError::Name {
            name: name.to_owned(),
            cause: "it is not a plain word".to_owned(),
            help: "use lower-case letters, digits and `-`, at most 40".to_owned(),
        });
    }
    let folder = Path::new(ROOT).join(name);
    make_folder(Path::new(ROOT))?;
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(HostsError::Name {
            name: name.to_owned(),
            cause: "hosts of that name are up".to_owned(),
            help: format!("take them down with `hosts down --prefix {name}`, or choose another --prefix"),
        }),
        made => made.map(|()| folder.clone()).map_err(|source| at(&folder, source)),
    }
}

fn make_folder(path: &Path) -> Result<(), HostsError> {
    fs::create_dir_all(path).map_err(|source| at(path, source))
}

/// An error at a file of the records.
pub(crate) fn at(path: &Path, source: io::Error) -> HostsError {
    HostsError::Record { path: path.display().to_string(), source }
}
