//! Which algorithm an all-reduce uses: by number of ranks, transport and size. The built-in table holds until somebody
//! measures a better one (`halo-perf tune`) and names its file in `HALO_PLANS`.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Parts;
use super::model::{Costs, two_shot_from};
use crate::error::Error;

/// What a table's file must say of itself.
const VERSION: u32 = 1;

/// What rules can be for: links of one kind, or of several.
const TRANSPORTS: [&str; 4] = ["shm", "rdma", "tcp", "mixed"];

/// The ways to do an all-reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Everybody sends everything to everybody and reduces it all: one phase.
    OneShot,
    /// Each rank reduces its share and passes the result on: two phases, and fewer bytes with three and more ranks.
    TwoShot,
    /// Inputs are gathered in log2(ranks) steps of growing messages, then reduced: few messages.
    Doubling,
    /// Shares go around, each rank adding its part, and around once more: only neighbours' links are used.
    Ring,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::OneShot, Self::TwoShot, Self::Doubling, Self::Ring];

    /// Runs of the bytes of a buffer, and the rank whose input begins the reduction there: the others follow in rank order,
    /// rank 0 after the last. It is rank 0 but for a ring, where each share begins with the rank behind its owner.
    pub fn first_ranks(self, ranks: usize, bytes: usize) -> Vec<(Range<usize>, usize)> {
        if self != Self::Ring {
            return vec![(0..bytes, 0)];
        }
        let shares = Parts::shares(bytes, ranks);
        (0..ranks).filter_map(|rank| Some((shares.of(rank)?, (rank + 1) % ranks))).collect()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OneShot => "one-shot",
            Self::TwoShot => "two-shot",
            Self::Doubling => "doubling",
            Self::Ring => "ring",
        })
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.to_string() == text);
        found.ok_or_else(|| Error::UnknownName {
            what: "algorithm",
            given: text.to_owned(),
            known: Self::ALL.map(|algorithm| algorithm.to_string()).join(", "),
        })
    }
}

/// One row: what is used up to a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Number of ranks it is for.
    pub ranks: usize,
    /// `shm`, `rdma`, `tcp` or `mixed`.
    pub transport: String,
    /// Bytes up to which it holds; a rule without it holds for all that is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<usize>,
    /// What is used.
    pub algorithm: Algorithm,
    /// Bytes of a chunk, at most one slot; a whole slot unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
}

/// The rules of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTable {
    version: u32,
    #[serde(default)]
    all_reduce: Vec<Rule>,
}

impl PlanTable {
    /// A table of these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { version: VERSION, all_reduce: rules }
    }

    /// The rules, as the file has them.
    pub fn rules(&self) -> &[Rule] {
        &self.all_reduce
    }

    /// Reads a table.
    ///
    /// # Errors
    /// The file cannot be read, is no such table, or belongs to another version.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let refuse = |cause: String| Error::PlanTable { path: path.display().to_string(), cause };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let table: Self =
            toml::from_str(&text).map_err(|error| refuse(error.to_string().trim_end().to_owned()))?;
        if table.version != VERSION {
            return Err(refuse(format!(
                "it has version {}, this halo reads version {VERSION}",
                table.version
            )));
        }
        for rule in &table.all_reduce {
            if !TRANSPORTS.contains(&rule.transport.as_str()) {
                let known = TRANSPORTS.join(", ");
                return Err(refuse(format!("a rule's transport is one of {known}: {rule:?}")));
            }
            if rule.ranks < 2 || rule.chunk.is_some_and(|chunk| chunk < 64 || !chunk.is_multiple_of(64)) {
                let cause = "a rule needs at least 2 ranks, and its chunk is a multiple of 64 bytes";
                return Err(refuse(format!("{cause}: {rule:?}")));
            }
        }
        Ok(table)
    }

    /// What an all-reduce uses by this table, or by the built-in one where it has no rule.
    pub fn algorithm(&self, ranks: usize, transport: &str, bytes: usize) -> Algorithm {
        self.choices(ranks, transport, usize::MAX).of(bytes).algorithm
    }

    /// The table as its file has it.
    pub fn to_text(&self) -> String {
        let text = toml::to_string(self).expect("a table is plain data");
        format!(
            "# Which algorithm an all-reduce uses, by ranks, transport and size; HALO_PLANS names this file.\n{text}"
        )
    }

    /// What all ranks must have in common, short enough for an error that shows both sides.
    pub(crate) fn fingerprint(&self) -> String {
        if self.all_reduce.is_empty() {
            return "the built-in one".to_owned();
        }
        let digest = Sha256::digest(self.to_text());
        let hex = digest[..8].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        format!("{} rules with digest {hex}", self.all_reduce.len())
    }

    /// The rules for one communicator, smallest first; those built in where the table has none.
    pub(crate) fn choices(&self, ranks: usize, transport: &str, slot_bytes: usize) -> Choices {
        let fits = |rule: &&Rule| rule.ranks == ranks && rule.transport == transport;
        let mut rules: Vec<Choice> = self
            .all_reduce
            .iter()
            .filter(fits)
            .map(|rule| Choice {
                up_to: rule.up_to.unwrap_or(usize::MAX),
                algorithm: rule.algorithm,
                chunk: rule.chunk.unwrap_or(slot_bytes).min(slot_bytes),
            })
            .collect();
        rules.sort_by_key(|rule| rule.up_to);
        let chunk = slot_bytes;
        rules.push(Choice { up_to: one_shot_bytes(ranks, transport), algorithm: Algorithm::OneShot, chunk });
        rules.push(Choice { up_to: usize::MAX, algorithm: Algorithm::TwoShot, chunk });
        Choices(rules)
    }
}

/// Up to this size everybody sends everything to everybody, unless a table says otherwise. Two ranks move the same bytes
/// either way, and one phase is shorter than two. For three and more it is where the model of docs/scaling.md says: of an
/// E810 for rdma, of USB4 for tcp.
fn one_shot_bytes(ranks: usize, transport: &str) -> usize {
    match (ranks, transport) {
        (0..=2, _) => usize::MAX,
        (_, "shm") => 64 << 10,
        (_, "rdma") => two_shot_from(ranks, Costs::E810),
        _ => two_shot_from(ranks, Costs::USB4),
    }
}

/// What an all-reduce uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    up_to: usize,
    pub(crate) algorithm: Algorithm,
    pub(crate) chunk: usize,
}

/// The choices of one communicator, the first that fits being the one.
#[derive(Debug)]
pub(crate) struct Choices(Vec<Choice>);

impl Choices {
    #[inline]
    pub(crate) fn of(&self, bytes: usize) -> Choice {
        *self.0.iter().find(|choice| bytes <= choice.up_to).expect("the last one fits every size")
    }

    /// From now on this algorithm at every size.
    pub(crate) fn force(&mut self, algorithm: Algorithm, chunk: usize) {
        self.0 = vec![Choice { up_to: usize::MAX, algorithm, chunk }];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PlanTable, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        PlanTable::read(file.path()).map_err(|error| {
            assert_eq!(error.stable_code(), "HALO-E0309");
            error.to_string()
        })
    }

    fn rule(ranks: usize, up_to: Option<usize>, algorithm: Algorithm) -> Rule {
        Rule { ranks, transport: "shm".to_owned(), up_to, algorithm, chunk: None }
    }

    #[test]
    fn a_table_survives_its_file_and_is_asked_by_ranks_transport_and_size() {
        let rules = vec![
            rule(4, None, Algorithm::OneShot),
            rule(4, Some(1024), Algorithm::Doubling),
            Rule { chunk: Some(4096), ..rule(4, Some(9000), Algorithm::TwoShot) },
        ];
        let table = PlanTable::new(rules);
        assert_eq!(read(&table.to_text()).unwrap(), table);
        let choices = table.choices(4, "shm", 8192);
        let choice = |bytes| (choices.of(bytes).algorithm, choices.of(bytes).chunk);
        assert_eq!(choice(0), (Algorithm::Doubling, 8192));
        assert_eq!(choice(1024), (Algorithm::Doubling, 8192));
        assert_eq!(choice(1025), (Algorithm::TwoShot, 4096));
        assert_eq!(choice(1 << 40), (Algorithm::OneShot, 8192));
        let by_model = |costs| two_shot_from(4, costs);
        let (tcp, rdma) = (by_model(Costs::USB4), by_model(Costs::E810));
        for (ranks, transport, last) in
            [(4, "tcp", tcp), (3, "shm", 65_536), (4, "rdma", rdma), (4, "mixed", tcp)]
        {
            let choices = table.choices(ranks, transport, 8192);
            assert_eq!(choices.of(last).algorithm, Algorithm::OneShot);
            assert_eq!(choices.of(last + 1).algorithm, Algorithm::TwoShot);
        }
        assert_eq!(table.choices(2, "shm", 8192).of(1 << 40).algorithm, Algorithm::OneShot);
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_place() {
        assert!(read("version = 7").unwrap_err().contains("version 7"));
        assert!(read("all_reduce = 3").unwrap_err().contains("line 1"));
        let unknown = "version = 1\n[[all_reduce]]\nranks = 2\ntransport = \"shm\"\nalgorithm = \"magic\"\n";
        assert!(read(unknown).unwrap_err().contains("magic"));
        let elsewhere = unknown.replace("shm", "carrier-pigeon").replace("magic", "ring");
        assert!(read(&elsewhere).unwrap_err().contains("one of shm, rdma, tcp, mixed"));
        assert!(
            read(&unknown.replace("magic", "two-shot").replace('2', "1")).unwrap_err().contains("2 ranks")
        );
        let missing = PlanTable::read(Path::new("/nowhere/plans.toml")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/plans.toml"), "{missing}");
    }
}
