//! The tuner: which algorithm, protocol and number of channels the core should use, by ranks, size and link.
//!
//! Over a network of a few hosts the core's own model puts the switch from the low-latency protocol to the one for
//! bandwidth elsewhere than these machines have it. A table says where; what no rule covers is left to the core.

use halo_tuner::{Algorithm, Collective, Link, Protocol, Table};

use super::abi::tuner::{ALGORITHM_RING, ALGORITHM_TREE, PROTOCOL_LL, PROTOCOL_LL128, PROTOCOL_SIMPLE};
use super::device::{self, Kind};
use super::error::PluginError;
use super::log;

/// What a rule decides, in the core's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) algorithm: i32,
    pub(crate) protocol: i32,
    pub(crate) channels: Option<u32>,
}

/// One communicator's tuner.
#[derive(Debug)]
pub(crate) struct Tuner {
    /// `None`: every choice is the core's.
    table: Option<Table>,
    ranks: usize,
    link: Link,
}

impl Tuner {
    /// For a communicator of so many ranks on so many hosts.
    pub(crate) fn new(ranks: usize, hosts: usize) -> Result<Self, PluginError> {
        let file = halo_env::HALO_TUNER_FILE.get();
        let table = match file.as_deref() {
            // On one host nothing goes over the network.
            _ if hosts < 2 => None,
            Some("off") => None,
            Some(path) => Some(Table::from_file(path)?),
            None => Some(Table::built_in()),
        };
        let link = match device::by_number(0).ok().map(|device| &device.kind) {
            Some(Kind::Rdma(_)) => Link::Rdma,
            _ => Link::Tcp,
        };
        let from = file.as_deref().unwrap_or("the built-in table");
        log::info(&format!(
            "tuner for {ranks} ranks on {hosts} hosts over {link:?}: {}",
            if table.is_some() { from } else { "off, every choice is the core's" }
        ));
        Ok(Self { table, ranks, link })
    }

    /// The choice for one collective, if the table has one.
    pub(crate) fn choose(&self, collective: i32, bytes: usize) -> Option<Choice> {
        let collective = Collective::from_core(collective)?;
        let rule = self.table.as_ref()?.find(collective, self.ranks, bytes as u64, self.link)?;
        Some(Choice {
            algorithm: match rule.algorithm {
                Algorithm::Tree => ALGORITHM_TREE,
                Algorithm::Ring => ALGORITHM_RING,
            },
            protocol: match rule.protocol {
                Protocol::Ll => PROTOCOL_LL,
                Protocol::Ll128 => PROTOCOL_LL128,
                Protocol::Simple => PROTOCOL_SIMPLE,
            },
            channels: rule.channels,
        })
    }
}
