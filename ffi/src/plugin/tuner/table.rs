//! The tuner's table: rules of which the first that fits decides.

use serde::{Deserialize, Serialize};

use crate::plugin::abi::tuner::{
    ALGORITHM_RING, ALGORITHM_TREE, PROTOCOL_LL, PROTOCOL_LL128, PROTOCOL_SIMPLE,
};
use crate::plugin::error::PluginError;

/// A collective that the core asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Collective {
    Broadcast,
    Reduce,
    AllGather,
    ReduceScatter,
    AllReduce,
}

impl Collective {
    /// By the core's number.
    pub(crate) fn from_core(number: i32) -> Option<Self> {
        let all = [Self::Broadcast, Self::Reduce, Self::AllGather, Self::ReduceScatter, Self::AllReduce];
        all.get(usize::try_from(number).ok()?).copied()
    }
}

/// What the hosts are joined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Link {
    Rdma,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Tree,
    Ring,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Protocol {
    #[serde(rename = "LL")]
    Ll,
    #[serde(rename = "LL128")]
    Ll128,
    Simple,
}

/// One rule. What is left out fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    collective: Collective,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ranks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ranks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<Link>,
    /// The largest size, in bytes, that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    algorithm: Algorithm,
    protocol: Protocol,
    /// How many channels; left out, the core decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u32>,
}

/// The table, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    rule: Vec<Rule>,
}

/// What a rule decides, in the core's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) algorithm: i32,
    pub(crate) protocol: i32,
    pub(crate) channels: Option<u32>,
}

impl Table {
    /// Low latency on one or two channels up to where its doubled bytes cost more than its missing handshake, then the
    /// protocol for bandwidth.
    pub(crate) fn built_in() -> Self {
        let rule = |max_bytes, link, protocol, channels| Rule {
            collective: Collective::AllReduce,
            min_ranks: None,
            max_ranks: Some(8),
            link,
            max_bytes,
            algorithm: Algorithm::Ring,
            protocol,
            channels,
        };
        let tcp = Some(Link::Tcp);
        Self {
            rule: vec![
                rule(Some(16 << 10), None, Protocol::Ll, Some(1)),
                rule(Some(64 << 10), None, Protocol::Ll, Some(2)),
                // A TCP stream needs more to be worth its handshake.
                rule(Some(128 << 10), tcp, Protocol::Ll, Some(2)),
                rule(None, None, Protocol::Simple, None),
            ],
        }
    }

    /// Reads a table; its file is TOML.
    pub(crate) fn from_file(path: &str) -> Result<Self, PluginError> {
        let refuse = |cause: String| PluginError::TunerTable { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::read(&text).map_err(refuse)
    }

    fn read(text: &str) -> Result<Self, String> {
        let table: Self = toml::from_str(text).map_err(|error| error.to_string().replace('\n', " "))?;
        let zero = table.rule.iter().position(|rule| rule.channels == Some(0));
        zero.map_or(Ok(table), |index| Err(format!("rule {} has 0 channels", index + 1)))
    }

    /// The first rule that fits.
    pub(crate) fn find(
        &self,
        collective: Collective,
        ranks: usize,
        bytes: u64,
        link: Link,
    ) -> Option<Choice> {
        let fits = |rule: &&Rule| {
            rule.collective == collective
                && rule.min_ranks.is_none_or(|least| ranks >= least)
                && rule.max_ranks.is_none_or(|most| ranks <= most)
                && rule.max_bytes.is_none_or(|most| bytes <= most)
                && rule.link.is_none_or(|meant| meant == link)
        };
        self.rule.iter().find(fits).map(|rule| Choice {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_all_reduces_are_low_latency_and_large_ones_are_not() {
        let find = |bytes, link| Table::built_in().find(Collective::AllReduce, 2, bytes, link).unwrap();
        assert_eq!(
            (find(8192, Link::Rdma).protocol, find(8192, Link::Rdma).channels),
            (PROTOCOL_LL, Some(1))
        );
        assert_eq!(
            (find(100_000, Link::Rdma).protocol, find(100_000, Link::Tcp).protocol),
            (PROTOCOL_SIMPLE, PROTOCOL_LL)
        );
        assert_eq!(
            (find(1 << 24, Link::Tcp).protocol, find(1 << 24, Link::Tcp).channels),
            (PROTOCOL_SIMPLE, None)
        );
        assert_eq!(Table::built_in().find(Collective::Broadcast, 2, 8192, Link::Rdma), None);
        assert_eq!(Table::built_in().find(Collective::AllReduce, 64, 8192, Link::Rdma), None);
    }

    #[test]
    fn a_file_is_read_and_its_mistakes_are_named() {
        let text = "[[rule]]\ncollective = \"all_gather\"\nmax_bytes = 4096\nlink = \"tcp\"\nalgorithm = \"tree\"\nprotocol = \"LL128\"\n";
        let table = Table::read(text).unwrap();
        let found = table.find(Collective::AllGather, 4, 4096, Link::Tcp).unwrap();
        assert_eq!((found.algorithm, found.protocol, found.channels), (ALGORITHM_TREE, PROTOCOL_LL128, None));
        assert_eq!(table.find(Collective::AllGather, 4, 4097, Link::Tcp), None);
        assert!(Table::read(&text.replace("LL128", "fast")).unwrap_err().contains("fast"));
        assert!(Table::read(&text.replace("max_bytes", "max_size")).unwrap_err().contains("max_size"));
        assert!(Table::read(&format!("{text}channels = 0\n")).unwrap_err().contains("rule 1"));
        assert!(Table::from_file("/nonexistent.toml").unwrap_err().to_string().contains("/nonexistent.toml"));
    }

    #[test]
    fn the_built_in_table_is_written_as_it_is_read() {
        let text = toml::to_string(&Table::built_in()).unwrap();
        assert_eq!(Table::read(&text), Ok(Table::built_in()));
    }
}
