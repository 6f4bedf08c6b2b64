//! Which algorithm an all-reduce uses: by number of ranks, transport and size. The built-in table holds until somebody
//! measures a better one (`halo-perf tune`) and names its file in `HALO_PLANS`.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use halo_fabric::DEFAULT_SLOT_BYTES;

use super::Parts;
use super::model::{Costs, two_shot_from};
use crate::error::Error;

/// What a table's file must say of itself.
const VERSION: u32 = 1;

/// More is no table, which has some ten lines for every number of ranks and transport.
const MOST_BYTES: u64 = 1 << 20;

/// What rules can be for: links of one kind, or of several.
const TRANSPORTS: [&str; 4] = ["shm", "rdma", "tcp", "mixed"];

/// The ways to do an all-reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Everybody sends everything to everybody and reduces it all: one phase.
    OneShot,
    /// Each rank reduces its share and passes the result on: half the additions and more with more ranks, and with three and
    /// more ranks fewer bytes.
    TwoShot,
    /// Inputs are gathered in log2(ranks) steps of growing messages, then reduced: few messages.
    Doubling,
    /// Shares go around, each rank adding its part, and around once more: only neighbours' links are used.
    Ring,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::OneShot, Self::TwoShot, Self::Doubling, Self::Ring];

    /// Whether a rule can say how large its chunks are: the others always fill their slots.
    pub fn has_chunks(self) -> bool {
        matches!(self, Self::OneShot | Self::Ring)
    }

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
    /// Bytes of a chunk, at most one slot; a whole slot unless told. Only of an algorithm that has chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
}

impl Rule {
    /// Refuses what cannot be, and what would have no effect: whoever wrote it expects one.
    fn check(&self) -> Result<(), String> {
        if !TRANSPORTS.contains(&self.transport.as_str()) {
            let known = TRANSPORTS.join(", ");
            return Err(format!("a rule's transport is one of {known}: {self:?}"));
        }
        if self.ranks < 2 || self.chunk.is_some_and(|chunk| chunk < 64 || !chunk.is_multiple_of(64)) {
            let cause = "a rule needs at least 2 ranks, and its chunk is a multiple of 64 bytes";
            return Err(format!("{cause}: {self:?}"));
        }
        if self.chunk.is_some() && !self.algorithm.has_chunks() {
            return Err(format!("{} has no chunk to choose, leave it out: {self:?}", self.algorithm));
        }
        Ok(())
    }
}

/// What every version's table says, whatever else it holds.
#[derive(Deserialize)]
struct Header {
    version: Option<u32>,
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
    /// The file cannot be read, is no such table, belongs to another version, or has a rule without effect.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let table = text_of(path).and_then(|text| Self::from_text(&text));
        table.map_err(|cause| Error::PlanTable { path: path.display().to_string(), cause })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        // Before everything else, of which another version may have more.
        let version = parse::<Header>(text)?.version;
        let version = version.ok_or(format!("it says no version; this halo reads version {VERSION}"))?;
        if version != VERSION {
            return Err(format!("it has version {version}, this halo reads version {VERSION}"));
        }
        let table: Self = parse(text)?;
        let mut seen = HashSet::new();
        for rule in &table.all_reduce {
            rule.check()?;
            if !seen.insert((rule.ranks, &rule.transport, rule.up_to)) {
                return Err(format!("two rules have the same ranks, transport and up_to: {rule:?}"));
            }
        }
        Ok(table)
    }

    /// What an all-reduce uses by this table, or by the built-in one where it has no rule, with slots as they are by default.
    pub fn algorithm(&self, ranks: usize, transport: &str, bytes: usize) -> Algorithm {
        let chunks = self.all_reduce.iter().filter_map(|rule| rule.chunk);
        let slot_bytes = chunks.fold(DEFAULT_SLOT_BYTES, usize::max);
        let choices = self.choices(ranks, transport, slot_bytes).expect("no chunk is larger than that");
        choices.of(bytes).algorithm
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

    /// The rules for one communicator, smallest first; those built in where the table has none. Refuses a chunk that no
    /// slot can take: it would be cut to something that nobody has measured.
    pub(crate) fn choices(
        &self,
        ranks: usize,
        transport: &str,
        slot_bytes: usize,
    ) -> Result<Choices, String> {
        let mut rules = Vec::new();
        for rule in self.all_reduce.iter().filter(|rule| rule.ranks == ranks && rule.transport == transport) {
            let chunk = rule.chunk.unwrap_or(slot_bytes);
            if chunk > slot_bytes {
                return Err(format!(
                    "a chunk of {chunk} bytes does not fit a slot, which has {slot_bytes} (HALO_SLOT_BYTES): {rule:?}"
                ));
            }
            let up_to = rule.up_to.unwrap_or(usize::MAX);
            rules.push(Choice { up_to, algorithm: rule.algorithm, chunk });
        }
        rules.sort_by_key(|rule| rule.up_to);
        let chunk = slot_bytes;
        let up_to = one_shot_bytes(ranks, transport, slot_bytes);
        rules.push(Choice { up_to, algorithm: Algorithm::OneShot, chunk });
        rules.push(Choice { up_to: usize::MAX, algorithm: Algorithm::TwoShot, chunk });
        Ok(Choices(rules))
    }
}

/// The text of a file, unless it is longer than a table: a device may never end.
fn text_of(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes, which no table is"));
    }
    String::from_utf8(bytes).map_err(|error| format!("it is no text: {error}"))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

/// Up to this size everybody sends everything to everybody, unless a table says otherwise. Two ranks move the same bytes
/// either way, and one phase is shorter than two; where shares are several slots long two phases take no longer, and half
/// the additions, which a NIC leaves time to gain by. For three and more it is where the model of docs/scaling.md says: of
/// an E810 for rdma, of USB4 for tcp.
fn one_shot_bytes(ranks: usize, transport: &str, slot_bytes: usize) -> usize {
    match (ranks, transport) {
        // Shares of four slots.
        (2, "rdma") => 8 * slot_bytes - 1,
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
            Rule { chunk: Some(4096), ..rule(4, Some(9000), Algorithm::Ring) },
        ];
        let table = PlanTable::new(rules);
        assert_eq!(read(&table.to_text()).unwrap(), table);
        let choices = table.choices(4, "shm", 8192).unwrap();
        let choice = |bytes| (choices.of(bytes).algorithm, choices.of(bytes).chunk);
        assert_eq!(choice(0), (Algorithm::Doubling, 8192));
        assert_eq!(choice(1024), (Algorithm::Doubling, 8192));
        assert_eq!(choice(1025), (Algorithm::Ring, 4096));
        assert_eq!(choice(1 << 40), (Algorithm::OneShot, 8192));
        let by_model = |costs| two_shot_from(4, costs);
        let (tcp, rdma) = (by_model(Costs::USB4), by_model(Costs::E810));
        for (ranks, transport, last) in
            [(4, "tcp", tcp), (3, "shm", 65_536), (4, "rdma", rdma), (4, "mixed", tcp)]
        {
            let choices = table.choices(ranks, transport, 8192).unwrap();
            assert_eq!(choices.of(last).algorithm, Algorithm::OneShot);
            assert_eq!(choices.of(last + 1).algorithm, Algorithm::TwoShot);
        }
        let two_ranks = |transport, bytes| table.algorithm(2, transport, bytes);
        assert_eq!(two_ranks("shm", 1 << 40), Algorithm::OneShot);
        assert_eq!(two_ranks("tcp", 1 << 40), Algorithm::OneShot);
        assert_eq!(two_ranks("rdma", (1 << 20) - 1), Algorithm::OneShot);
        assert_eq!(two_ranks("rdma", 1 << 20), Algorithm::TwoShot);
        let choices = table.choices(2, "rdma", 8192).unwrap();
        assert_eq!(
            [65_535, 65_536].map(|bytes| choices.of(bytes).algorithm),
            [Algorithm::OneShot, Algorithm::TwoShot]
        );
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_place() {
        assert!(read("version = 7").unwrap_err().contains("version 7"));
        assert!(read("version = 1\nall_reduce = 3").unwrap_err().contains("line 2"));
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

    #[test]
    fn a_table_of_another_version_is_refused_by_it_whatever_else_it_has() {
        let newer = "version = 2\ncolour = \"blue\"\n";
        assert!(read(newer).unwrap_err().contains("it has version 2, this halo reads version 1"));
        assert!(read(&newer.replace('2', "1")).unwrap_err().contains("colour"));
        for without in ["", "all_reduce = []", "[[all_reduce]]\nranks = 2\n"] {
            assert!(read(without).unwrap_err().contains("it says no version"));
        }
    }

    #[test]
    fn what_is_too_long_or_no_text_is_no_table() {
        let long = "# a table with many words\n".repeat(50_000);
        assert!(read(&format!("version = 1\n{long}")).unwrap_err().contains("longer than 1048576 bytes"));
        let endless = PlanTable::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.contains("longer than 1048576 bytes"), "{endless}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"version = 1 # \xff").unwrap();
        let no_text = PlanTable::read(file.path()).unwrap_err().to_string();
        assert!(no_text.contains("it is no text"), "{no_text}");
    }

    #[test]
    fn a_rule_without_effect_is_refused() {
        let text = |rules: Vec<Rule>| PlanTable::new(rules).to_text();
        for up_to in [None, Some(4096)] {
            let twice = vec![rule(4, up_to, Algorithm::Ring), rule(4, up_to, Algorithm::OneShot)];
            let refused = read(&text(twice)).unwrap_err();
            assert!(refused.contains("two rules") && refused.contains("OneShot"), "{refused}");
        }
        for algorithm in Algorithm::ALL {
            let answer = read(&text(vec![Rule { chunk: Some(4096), ..rule(4, None, algorithm) }]));
            assert_eq!(answer.is_ok(), algorithm.has_chunks(), "{answer:?}");
        }
    }

    #[test]
    fn a_chunk_larger_than_the_slot_is_refused_where_its_rule_holds() {
        let table = PlanTable::new(vec![Rule { chunk: Some(8256), ..rule(4, None, Algorithm::Ring) }]);
        let refused = table.choices(4, "shm", 8192).unwrap_err();
        for named in ["8256", "8192", "HALO_SLOT_BYTES", "Ring"] {
            assert!(refused.contains(named), "{refused}");
        }
        assert!(table.choices(4, "shm", 8256).is_ok());
        assert!(table.choices(4, "tcp", 8192).is_ok() && table.choices(3, "shm", 8192).is_ok());
    }
}
