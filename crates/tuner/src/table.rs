//! Rules of which the first that fits decides, and their file.

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A file that is no table.
#[derive(Debug, Clone, PartialEq, Eq, Error, Diagnostic)]
#[error("the tuner's table {path} cannot be used: {cause}")]
#[diagnostic(code("HALO-E0819"), help("docs/plugin.md shows its form; HALO_TUNER_FILE=off does without"))]
pub struct TableError {
    /// Which file.
    pub path: String,
    /// What is wrong with it.
    pub cause: String,
}

/// A collective that the core asks about, in the order of the core's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the field's terms")]
pub enum Collective {
    Broadcast,
    Reduce,
    AllGather,
    ReduceScatter,
    AllReduce,
}

impl Collective {
    /// By the core's number.
    pub fn from_core(number: i32) -> Option<Self> {
        let all = [Self::Broadcast, Self::Reduce, Self::AllGather, Self::ReduceScatter, Self::AllReduce];
        all.get(usize::try_from(number).ok()?).copied()
    }
}

/// What the hosts are joined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the field's terms")]
pub enum Link {
    Rdma,
    Tcp,
}

/// How ranks are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the field's terms")]
pub enum Algorithm {
    Tree,
    Ring,
}

/// How the core's kernels hand data over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// A flag beside every four bytes: no fence, twice the bytes.
    #[serde(rename = "LL")]
    Ll,
    /// A flag in every 128 bytes.
    #[serde(rename = "LL128")]
    Ll128,
    /// Whole chunks, with a fence and a hand-shake each.
    Simple,
}

/// One rule. What is left out fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is for.
    pub collective: Collective,
    /// The fewest ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ranks: Option<usize>,
    /// The most ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ranks: Option<usize>,
    /// Over which link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The largest size, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// What is to be used.
    pub algorithm: Algorithm,
    /// What is to be used.
    pub protocol: Protocol,
    /// How many channels; left out, the core decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
}

/// The table, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// In the order in which they are asked.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

impl Table {
    /// Low latency on one or two channels up to where its doubled bytes cost more than its missing hand-shake, then the
    /// protocol for bandwidth.
    pub fn built_in() -> Self {
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
            rules: vec![
                rule(Some(16 << 10), None, Protocol::Ll, Some(1)),
                rule(Some(64 << 10), None, Protocol::Ll, Some(2)),
                // A TCP stream needs more to be worth its hand-shake.
                rule(Some(128 << 10), tcp, Protocol::Ll, Some(2)),
                rule(None, None, Protocol::Simple, None),
            ],
        }
    }

    /// Reads a table's file, which is TOML.
    ///
    /// # Errors
    /// There is no such file, or it is no table.
    pub fn from_file(path: &str) -> Result<Self, TableError> {
        let refuse = |cause: String| TableError { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::read(&text).map_err(refuse)
    }

    /// Reads a table's text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let table: Self = toml::from_str(text).map_err(|error| error.to_string().replace('\n', " "))?;
        let zero = table.rules.iter().position(|rule| rule.channels == Some(0));
        zero.map_or(Ok(table), |index| Err(format!("rule {} has 0 channels", index + 1)))
    }

    /// As its file has it.
    pub fn to_text(&self) -> String {
        toml::to_string(self).expect("a table is plain data")
    }

    /// The first rule that fits.
    pub fn find(&self, collective: Collective, ranks: usize, bytes: u64, link: Link) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.collective == collective
                && rule.min_ranks.is_none_or(|least| ranks >= least)
                && rule.max_ranks.is_none_or(|most| ranks <= most)
                && rule.max_bytes.is_none_or(|most| bytes <= most)
                && rule.link.is_none_or(|meant| meant == link)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_all_reduces_are_low_latency_and_large_ones_are_not() {
        let table = Table::built_in();
        let find = |bytes, link| {
            let rule = table.find(Collective::AllReduce, 2, bytes, link).unwrap();
            (rule.protocol, rule.channels)
        };
        assert_eq!(find(8192, Link::Rdma), (Protocol::Ll, Some(1)));
        assert_eq!(
            (find(100_000, Link::Rdma).0, find(100_000, Link::Tcp).0),
            (Protocol::Simple, Protocol::Ll)
        );
        assert_eq!(find(1 << 24, Link::Tcp), (Protocol::Simple, None));
        assert_eq!(table.find(Collective::Broadcast, 2, 8192, Link::Rdma), None);
        assert_eq!(table.find(Collective::AllReduce, 64, 8192, Link::Rdma), None);
    }

    #[test]
    fn a_file_is_read_and_its_mistakes_are_named() {
        let text = "[[rule]]\ncollective = \"all_gather\"\nmax_bytes = 4096\nlink = \"tcp\"\nalgorithm = \"tree\"\nprotocol = \"LL128\"\n";
        let table = Table::read(text).unwrap();
        let found = table.find(Collective::AllGather, 4, 4096, Link::Tcp).unwrap();
        assert_eq!(
            (found.algorithm, found.protocol, found.channels),
            (Algorithm::Tree, Protocol::Ll128, None)
        );
        assert_eq!(table.find(Collective::AllGather, 4, 4097, Link::Tcp), None);
        assert!(Table::read(&text.replace("LL128", "fast")).unwrap_err().contains("fast"));
        assert!(Table::read(&text.replace("max_bytes", "max_size")).unwrap_err().contains("max_size"));
        assert!(Table::read(&format!("{text}channels = 0\n")).unwrap_err().contains("rule 1"));
        assert!(Table::from_file("/nonexistent.toml").unwrap_err().to_string().contains("/nonexistent.toml"));
    }

    #[test]
    fn the_built_in_table_is_written_as_it_is_read() {
        assert_eq!(Table::read(&Table::built_in().to_text()), Ok(Table::built_in()));
    }
}
