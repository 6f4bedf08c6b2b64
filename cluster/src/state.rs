//! What is kept on disk of the launch: who runs it, on which nodes, and what its ranks reported.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::error::ClusterError;

/// Bytes without which a launch is not begun.
const ROOM: u64 = 1 << 20;

/// A launch, as `status` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// A random name of this launch, in every process of it as `HALO_CLUSTER_LAUNCH`.
    pub launch: String,
    /// The process that watches over it.
    pub pid: u32,
    /// `starting`, `ready`, `stopping`, `stopped` or `failed`.
    pub phase: String,
    /// The configuration file; none with `--local`.
    pub config: Option<PathBuf>,
    /// The model's folder.
    pub model: String,
    /// The transport asked for.
    pub transport: String,
    /// Where the API is.
    pub endpoint: String,
    /// The folder of the logs.
    pub logs: PathBuf,
    /// The nodes, head first.
    pub nodes: Vec<NodeState>,
    /// What every rank last reported, one entry per communicator.
    pub ranks: Vec<RankState>,
}

/// One node of a launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeState {
    pub name: String,
    /// Its ssh target, or `local`.
    pub target: String,
    pub address: String,
    pub ranks: usize,
}

/// One communicator of one rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RankState {
    pub node: String,
    /// The name of its statistics file, unique on its node.
    pub file: String,
    pub pid: u64,
    pub alive: bool,
    /// The communicator's name, such as `tp:0`.
    pub group: String,
    pub rank: u64,
    pub world: u64,
    /// The transports of its links, each once, with the rails that were lost.
    pub transports: Vec<String>,
    /// Collectives so far.
    pub operations: u64,
    /// Payload bytes of them.
    pub bytes: u64,
    /// The statistics as halo wrote them.
    pub statistics: Value,
}

impl RankState {
    pub fn new(node: String, file: String, pid: u64, statistics: &Value) -> Self {
        let list = |key: &str| statistics[key].as_array().cloned().unwrap_or_default();
        let mut transports: Vec<_> = list("links").iter().filter_map(transport).collect();
        transports.sort();
        transports.dedup();
        let sum = |key: &str| list("operations").iter().filter_map(|operation| operation[key].as_u64()).sum();
        Self {
            node,
            file,
            pid,
            alive: true,
            group: statistics["name"].as_str().unwrap_or_default().to_owned(),
            rank: statistics["rank"].as_u64().unwrap_or_default(),
            world: statistics["world"].as_u64().unwrap_or_default(),
            transports,
            operations: sum("count"),
            bytes: sum("bytes"),
            statistics: statistics.clone(),
        }
    }

    /// The failure of halo that stopped this rank, from its code on.
    pub fn failure(&self) -> Option<&str> {
        self.statistics["failure"].as_str()
    }
}

/// What carries a link, and the rails that it has lost.
fn transport(link: &Value) -> Option<String> {
    let mut text = link["transport"].as_str()?.to_owned();
    for rail in link["rails"].as_array().into_iter().flatten().filter(|rail| !rail["lost"].is_null()) {
        text += &format!(" without {}", rail["name"].as_str().unwrap_or_default());
    }
    Some(text)
}

impl State {
    pub fn new(launch: &str, config: &Config, file: Option<&Path>, folder: &Folder) -> Self {
        let nodes = config.nodes().map(|node| NodeState {
            name: node.name.clone(),
            target: node.ssh.clone().unwrap_or_else(|| "local".to_owned()),
            address: node.address.to_string(),
            ranks: node.ranks,
        });
        Self {
            launch: launch.to_owned(),
            pid: std::process::id(),
            phase: "starting".to_owned(),
            config: file.map(Path::to_owned),
            model: config.model.get_ref().clone(),
            transport: config.transport.name().to_owned(),
            logs: folder.logs(),
            nodes: nodes.collect(),
            ..Self::default()
        }
    }
}

/// The folder in which all of it lies.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// Held by the process that runs a launch; the kernel releases it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Folder {
    /// `$XDG_STATE_HOME/halo-cluster`, or `~/.local/state/halo-cluster`; made if it is missing.
    pub fn open() -> Result<Self, ClusterError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HOME").unwrap_or_else(|| PathBuf::from("/root")).join(".local/state");
        let path = set("XDG_STATE_HOME").unwrap_or_else(home).join("halo-cluster");
        let folder = Self { path };
        fs::create_dir_all(folder.logs()).map_err(|source| folder.refuse(source))?;
        Ok(folder)
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// What the background process of `--detach` prints.
    pub fn launch_log(&self) -> PathBuf {
        self.logs().join("launch.log")
    }

    /// What the processes of commands other than a launch print; made if it is missing.
    pub fn visit_logs(&self) -> Result<PathBuf, ClusterError> {
        let logs = self.path.join("visit-logs");
        fs::create_dir_all(&logs).map_err(|source| self.refuse(source))?;
        Ok(logs)
    }

    /// What was done for logins, and is to be taken back.
    pub fn logins(&self) -> PathBuf {
        self.path.join("logins.json")
    }

    /// What `verify` measured.
    pub fn verified(&self) -> PathBuf {
        self.path.join("verify")
    }

    /// The tiny model of `--local`.
    pub fn tiny_model(&self) -> PathBuf {
        self.path.join("tiny-model")
    }

    /// A copy of the configuration of the launch, for a `stop` after its process died.
    pub fn config(&self) -> PathBuf {
        self.path.join("cluster.toml")
    }

    /// The right to launch, which one process has at a time. Old logs go.
    pub fn lock(&self) -> Result<Lock, ClusterError> {
        let path = self.path.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|source| self.refuse(source))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let state = self.read().unwrap_or_default();
            let config = state.config.map_or("--local".to_owned(), |path| path.display().to_string());
            return Err(ClusterError::AlreadyRunning { pid: state.pid, config });
        }
        Ok(Lock { _file: file })
    }

    /// Removes the logs of the launch before this one.
    pub fn clear_logs(&self) {
        for entry in fs::read_dir(self.logs()).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = fs::remove_dir_all(entry.path());
            } else if entry.path() != self.launch_log() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Keeps the logs of a launch that failed while the next one begins.
    pub fn put_logs_aside(&self) {
        let aside = self.logs().join("before");
        let _ = fs::create_dir_all(&aside);
        for entry in fs::read_dir(self.logs()).into_iter().flatten().flatten() {
            if entry.path() != self.launch_log() && entry.path() != aside {
                let _ = fs::rename(entry.path(), aside.join(entry.file_name()));
            }
        }
    }

    /// Whether a process holds the lock.
    pub fn is_running(&self) -> bool {
        File::open(self.path.join("lock"))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }

    pub fn read(&self) -> Option<State> {
        serde_json::from_str(&fs::read_to_string(self.path.join("state.json")).ok()?).ok()
    }

    /// Readers see the old state or the new one, never half of it.
    pub fn write(&self, state: &State) -> Result<(), ClusterError> {
        let text = serde_json::to_string_pretty(state).unwrap_or_default();
        replace(&self.path.join("state.json"), &text).map_err(|source| self.refuse(source))
    }

    pub fn refuse(&self, source: io::Error) -> ClusterError {
        ClusterError::state(&self.path, source)
    }

    /// Whether the disk has room for the state and the first lines of every log.
    pub fn has_room(&self) -> Result<(), ClusterError> {
        let room = rustix::fs::statvfs(&self.path).map_err(|error| self.refuse(error.into()))?;
        // A file system that counts no blocks tells nothing.
        if room.f_blocks > 0 && room.f_bavail * room.f_frsize < ROOM {
            return Err(self.refuse(ErrorKind::StorageFull.into()));
        }
        Ok(())
    }
}

/// The file has the old text or the new one at every moment, also when the disk is full.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = PathBuf::from(format!("{}.halo-new", path.display()));
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// A random name or secret of that many bytes.
pub fn random_hex(bytes: usize) -> Result<String, ClusterError> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| ClusterError::Start {
        program: "getrandom".to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(random.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_that_has_lost_a_rail_says_so_beside_its_transport() {
        let rail = |name: &str, lost: Value| serde_json::json!({"name": name, "bytes_sent": 1, "lost": lost});
        let rails = [rail("irdma0:1", Value::Null), rail("irdma1:1", "its port is down".into())];
        let links =
            serde_json::json!({"links": [{"transport": "rdma", "rails": rails}, {"transport": "rdma"}]});
        let rank = RankState::new("a".to_owned(), "f".to_owned(), 1, &links);
        assert_eq!(rank.transports, ["rdma", "rdma without irdma1:1"]);
    }
}
