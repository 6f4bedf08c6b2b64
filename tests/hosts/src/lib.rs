//! Several hosts on one machine, for tests that need real ones.
//!
//! A host is a set of Linux namespaces: its own network, mounts (`/dev/shm`, `/tmp`, `/run`), host name and process
//! tree, with a real `sshd` as its first process. Two networks join the hosts, as on real boards: a management
//! network that reaches the machine itself (where ssh comes in) and a data network, 192.168.100.N with MTU 9000, that
//! only the hosts see. Everything of a host dies with its first process, so nothing is left behind.
//!
//! ```no_run
//! let hosts = halo_hosts::Hosts::up(2)?;
//! let output = hosts.exec(1, ["ping", "-c1", "192.168.100.2"])?;
//! assert!(output.status.success());
//! # Ok::<(), halo_hosts::HostsError>(())
//! ```

mod error;
mod host;
mod network;
mod record;
mod system;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

pub use error::HostsError;
pub use record::{HostRecord, Record};

/// The most hosts in one set.
pub const MAX_HOSTS: usize = 16;

/// A set of hosts that is taken down when this value is dropped.
#[derive(Debug)]
pub struct Hosts {
    record: Record,
    keep: bool,
}

impl Hosts {
    /// `count` hosts under a name of their own, so that tests can run side by side.
    ///
    /// # Errors
    /// Not root, a missing tool, or whatever the system refused.
    pub fn up(count: usize) -> Result<Self, HostsError> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::create(&name, count, Some(record::Owner::this_process()))
    }

    /// `count` hosts called `name`, which stay up until [`Hosts::down`] (or `hosts down`).
    ///
    /// # Errors
    /// As [`Hosts::up`], and a name that is taken or is not a plain word.
    pub fn up_named(name: &str, count: usize) -> Result<Self, HostsError> {
        let mut hosts = Self::create(name, count, None)?;
        hosts.keep = true;
        Ok(hosts)
    }

    fn create(name: &str, count: usize, owner: Option<record::Owner>) -> Result<Self, HostsError> {
        system::check()?;
        if count == 0 || count > MAX_HOSTS {
            return Err(HostsError::Count { count });
        }
        record::sweep_orphans()?;
        let record = Record::claim(name, count, owner)?;
        // From here on a failure takes down what was made so far, through Drop.
        let mut hosts = Self { record, keep: false };
        hosts.record.save()?;
        network::create(&hosts.record)?;
        host::make_keys(&hosts.record)?;
        for index in 0..count {
            let pid = host::start(&hosts.record, index)?;
            hosts.record.hosts[index].pid = Some(pid);
            hosts.record.save()?;
        }
        for host in &hosts.record.hosts {
            host::wait_for_ssh(&hosts.record, host)?;
        }
        Ok(hosts)
    }

    /// The hosts called `name` that are up.
    ///
    /// # Errors
    /// There are none.
    pub fn find(name: &str) -> Result<Self, HostsError> {
        Ok(Self { record: Record::load(name)?, keep: true })
    }

    /// Takes down the hosts called `name`; true if anything was there.
    ///
    /// # Errors
    /// Not root or a missing tool.
    pub fn down(name: &str) -> Result<bool, HostsError> {
        system::check()?;
        record::sweep_orphans()?;
        match Record::load(name) {
            Ok(record) => {
                tear_down(&record);
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// How many hosts there are.
    pub fn count(&self) -> usize {
        self.record.hosts.len()
    }

    /// Host `number`, counted from 1 as its address is.
    pub fn host(&self, number: usize) -> &HostRecord {
        &self.record.hosts[number - 1]
    }

    /// The configuration for `ssh -F`: every host by its name, with the key made for it.
    pub fn ssh_config(&self) -> PathBuf {
        self.record.ssh_config()
    }

    /// The folder with the keys and logs of these hosts.
    pub fn folder(&self) -> &Path {
        &self.record.folder
    }

    /// A command that runs on host `number` (from 1), in the current folder.
    pub fn command<S: AsRef<OsStr>>(&self, number: usize, argv: impl IntoIterator<Item = S>) -> Command {
        host::command(self.host(number), argv)
    }

    /// Runs a command on host `number` (from 1) and waits for it.
    ///
    /// # Errors
    /// The command could not be started. That it failed is in the output's status.
    pub fn exec<S: AsRef<OsStr>>(
        &self,
        number: usize,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Output, HostsError> {
        let mut command = self.command(number, argv);
        command.output().map_err(|source| HostsError::Start { command: format!("{command:?}"), source })
    }

    /// Every process on host `number` besides its sshd: `(pid, command line)`, pids as that host numbers them.
    ///
    /// # Errors
    /// The host could not be asked.
    pub fn processes(&self, number: usize) -> Result<Vec<(u32, String)>, HostsError> {
        let output = self.exec(number, ["ps", "-eo", "pid=,args="])?;
        let listing = String::from_utf8_lossy(&output.stdout);
        Ok(listing
            .lines()
            .filter_map(|line| {
                let (pid, args) = line.trim().split_once(' ')?;
                Some((pid.parse().ok()?, args.trim().to_owned()))
            })
            .filter(|(pid, args)| *pid != 1 && !args.starts_with("ps -eo") && !args.starts_with("sshd:"))
            .collect())
    }

    /// Cuts (or mends) the data cable of host `number`.
    ///
    /// # Errors
    /// The system refused.
    pub fn set_data_link(&self, number: usize, up: bool) -> Result<(), HostsError> {
        network::set_data_link(self.host(number), up)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if !self.keep {
            tear_down(&self.record);
        }
    }
}

/// Takes down whatever of `record` exists, in the order in which nothing is missed.
fn tear_down(record: &Record) {
    host::kill_all(record);
    network::remove(record);
    record.forget();
}
