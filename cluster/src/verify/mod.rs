//! `verify`: what every path between the nodes really carries, beside what it should.

mod error;
mod expected;
mod measure;
mod paths;
mod plot;
mod proof;
mod rccl;
mod result;
mod table;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

pub use error::VerifyError;
pub use result::floor;

use self::expected::Verdict;
use self::measure::Bench;
use self::paths::Path;
use self::result::{Row, Verified};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::ClusterError;
use crate::facts::Facts;
use crate::progress::Phase;
use crate::state::Folder;
use crate::survey::survey;

const EXAMPLES: &str = "Examples:
  halo-cluster verify cluster.toml --json --halo-perf ./halo-perf
  halo-cluster verify cluster.toml --compare";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The configuration (docs/cluster.md).
    config: PathBuf,
    /// Compare with an earlier measurement [default: the last one].
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "left out, without a file, and with one")]
    compare: Option<Option<PathBuf>>,
    /// Measure with this halo-perf on all nodes instead of their own.
    #[arg(long, value_name = "FILE")]
    halo_perf: Option<PathBuf>,
    /// Measure although a launch is running.
    #[arg(long)]
    anyway: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Measures everything, prints it and keeps it.
pub fn run(verify: &Verify) -> Result<(), ClusterError> {
    let config = Config::read(&verify.config)?;
    let folder = Folder::open()?;
    if folder.is_running() && !verify.anyway {
        let pid = folder.read().unwrap_or_default().pid;
        return Err(VerifyError::Busy { pid }.into());
    }
    if config.nodes.len() < 2 {
        return Err(VerifyError::OneNode.into());
    }
    // Before anything is measured: what it is to be compared with must be there.
    let before = verify.compare.as_ref().map(|file| earlier(&folder, file.as_ref())).transpose()?;
    let verified = measure(&config, &folder, verify)?;
    let kept = verified.save(&folder, &plot::svg(&verified))?;
    if verify.json {
        println!("{}", serde_json::to_string_pretty(&verified).unwrap_or_default());
    } else {
        print!("{}", table::rows(&verified));
        if let Some(before) = before {
            print!("\n{}", table::compare(&before, &verified));
        }
        println!("\nkept: {}\nplot: {}", kept.display(), kept.with_extension("svg").display());
    }
    if verified.is_good() {
        return Ok(());
    }
    Err(VerifyError::Failed { failed: failed(&verified.rows), rows: verified.rows.len() }.into())
}

fn earlier(folder: &Folder, file: Option<&PathBuf>) -> Result<Verified, VerifyError> {
    match file {
        Some(file) => Verified::load(file),
        None => Verified::latest(folder).ok_or(VerifyError::NothingEarlier),
    }
}

fn measure(config: &Config, folder: &Folder, verify: &Verify) -> Result<Verified, ClusterError> {
    let phase = Phase::start("look at the networks");
    let mut facts = Vec::new();
    for surveyed in survey(config) {
        facts.push(surveyed?.facts);
    }
    let paths = all_paths(config, &facts)?;
    phase.done(&format!("{} path(s)", paths.len()));
    let mut rows = Vec::new();
    Cluster::visit(config, folder, |cluster| {
        let bench = Bench::prepare(cluster, verify.halo_perf.as_deref())?;
        let phase = Phase::start("look for RCCL");
        let rccl = rccl::find(cluster)?;
        phase.done(rccl.as_ref().unwrap_or_else(|missing| missing));
        for (between, path) in &paths {
            let [a, b] = &path.ends;
            let phase = Phase::start(format!("measure {} to {}, {}", a.node, b.node, path.name()));
            let mut measured = bench.measure(cluster, path, *between)?;
            if rccl.is_ok() && failed(&measured) == 0 {
                measured.extend(rccl::measure(cluster, path, *between, &facts, &measured)?);
            }
            phase.done(&match failed(&measured) {
                0 => String::new(),
                failed => format!("{failed} row(s) failed"),
            });
            rows.extend(measured);
        }
        Ok(())
    })?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Verified { at, halo: env!("CARGO_PKG_VERSION").to_owned(), rows })
}

fn failed(rows: &[Row]) -> usize {
    rows.iter().filter(|row| matches!(row.verdict, Verdict::Fail(_))).count()
}

/// The paths of every pair of nodes.
fn all_paths(config: &Config, facts: &[Facts]) -> Result<Vec<([usize; 2], Path)>, VerifyError> {
    let name = |index: usize| config.nodes[index].get_ref().name.as_str();
    let mut all = Vec::new();
    for a in 0..facts.len() {
        for b in a + 1..facts.len() {
            let paths = paths::between((name(a), &facts[a]), (name(b), &facts[b]));
            if paths.is_empty() {
                return Err(VerifyError::NoPath { a: name(a).to_owned(), b: name(b).to_owned() });
            }
            all.extend(paths.into_iter().map(|path| ([a, b], path)));
        }
    }
    Ok(all)
}
