//! What was measured: kept on disk, found again, compared.

use std::path::{Path as File, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::VerifyError;
use super::expected::Verdict;
use super::paths::{Carrier, Path};
use crate::state::Folder;

/// What a row measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// 8 bytes, one way, in microseconds.
    Latency,
    /// Large messages one way, in Gb/s, from the named node.
    Bandwidth { from: String },
    /// halo's all-reduce of two ranks, in microseconds.
    AllReduce { bytes: u64 },
    /// RCCL's.
    Rccl { bytes: u64 },
}

impl What {
    pub fn name(&self) -> String {
        match self {
            Self::Latency => "latency, 8 B".to_owned(),
            Self::Bandwidth { from } => format!("bandwidth from {from}"),
            Self::AllReduce { bytes } => format!("all-reduce {}", size(*bytes)),
            Self::Rccl { bytes } => format!("RCCL all-reduce {}", size(*bytes)),
        }
    }

    pub fn unit(&self) -> &'static str {
        if matches!(self, Self::Bandwidth { .. }) { "Gb/s" } else { "us" }
    }
}

/// 49152 as `48 KiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

/// One measurement of one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub path: Path,
    pub what: What,
    /// The median; none if it could not be measured.
    pub value: Option<f64>,
    pub p99: Option<f64>,
    pub expected: Option<f64>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the network card counted, in words.
    pub proof: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Seconds since 1970.
    pub at: u64,
    pub halo: String,
    pub rows: Vec<Row>,
}

impl Verified {
    /// Keeps it as the latest; where it and its plot are to lie.
    pub fn save(&self, folder: &Folder, plot: &str) -> Result<PathBuf, VerifyError> {
        let place = folder.verified();
        let refuse = |source| VerifyError::Save { path: place.clone(), source };
        std::fs::create_dir_all(&place).map_err(refuse)?;
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let name = place.join(format!("{}.json", self.at));
        std::fs::write(&name, &text).map_err(refuse)?;
        std::fs::write(name.with_extension("svg"), plot).map_err(refuse)?;
        Ok(name)
    }

    pub fn load(path: &File) -> Result<Self, VerifyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| VerifyError::Load { path: path.to_owned(), cause: error.to_string() })?;
        serde_json::from_str(&text)
            .map_err(|error| VerifyError::Load { path: path.to_owned(), cause: error.to_string() })
    }

    /// The last one that was kept.
    pub fn latest(folder: &Folder) -> Option<Self> {
        let entries = std::fs::read_dir(folder.verified()).ok()?.flatten();
        let stamp = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let newest = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .max_by_key(stamp)?;
        Self::load(&newest).ok()
    }

    /// Whether everything could be measured and went the way it should.
    pub fn is_good(&self) -> bool {
        !self.rows.iter().any(|row| matches!(row.verdict, Verdict::Fail(_)))
    }
}

/// The fastest 8 KiB all-reduce that was measured between the nodes, in microseconds; by RDMA if there is any.
pub fn floor(folder: &Folder) -> Option<f64> {
    let rows = Verified::latest(folder)?.rows;
    let best = |rdma: bool| {
        let of = rows.iter().filter(|row| (row.path.carrier == Carrier::Rdma) == rdma);
        let small = of.filter(|row| row.what == What::AllReduce { bytes: 8 << 10 });
        small.filter_map(|row| row.value).reduce(f64::min)
    };
    best(true).or_else(|| best(false))
}
