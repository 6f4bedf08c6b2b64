//! The measurements: halo-perf on both ends of a path, and what their network cards counted meanwhile.

use std::collections::BTreeMap;
use std::path::{Path as File, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::error::VerifyError;
use super::expected::{Verdict, expect, judge};
use super::paths::{Carrier, Kind, Path};
use super::proof::proof;
use super::result::{Row, What};
use crate::cluster::Cluster;
use crate::error::ClusterError;
use crate::plan::Job;
use crate::script::MEASURE;
use crate::state::random_hex;

/// halo-perf bounds its own waits; this is for a machine that stands still.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Seconds of every wait of halo-perf, a large all-reduce among them.
const CONNECT: &str = "20";
/// The sizes that matter: a decode step's all-reduces, and a large one.
pub const SMALL: (u64, u64) = (8 << 10, 48 << 10);
pub const LARGE: u64 = 64 << 20;
/// A second or two of the link, so that a slow one does not take minutes.
const SECONDS: f64 = 2.0;

/// What a rank's program answers.
#[derive(Debug, Clone, Deserialize)]
struct Answer {
    result: Option<Perf>,
    counted: BTreeMap<String, u64>,
    status: i64,
    said: String,
}

/// halo-perf's result, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
struct Perf {
    rows: Vec<PerfRow>,
}

#[derive(Debug, Clone, Deserialize)]
struct PerfRow {
    bytes: u64,
    algbw_gbs: f64,
    p50_us: f64,
    p99_us: f64,
    iterations: u64,
}

/// Where halo-perf is on each node.
#[derive(Debug)]
pub struct Bench {
    perf: Vec<String>,
}

impl Bench {
    /// Finds halo-perf of this release on every node; where there is none, sends `own`, a file of this machine.
    pub fn prepare(cluster: &mut Cluster, own: Option<&File>) -> Result<Self, ClusterError> {
        let version = env!("CARGO_PKG_VERSION");
        let count = cluster.config.nodes.len();
        let job = |node| Job::python(node, "find", &MEASURE, &["find", version]);
        let found = cluster.run_each((0..count).map(job).collect(), PATIENCE, |_, _| {})?;
        let mut perf = Vec::new();
        for (index, answer) in found.iter().enumerate() {
            let answer: serde_json::Value = answer.answer().unwrap_or_default();
            perf.push(match answer["path"].as_str() {
                Some(path) if own.is_none() => path.to_owned(),
                _ => send(cluster, index, own)?,
            });
        }
        Ok(Self { perf })
    }

    /// Every row of one path. What cannot be measured is a row that says why.
    pub fn measure(
        &self,
        cluster: &mut Cluster,
        path: &Path,
        between: [usize; 2],
    ) -> Result<Vec<Row>, ClusterError> {
        let mut run = Run { bench: self, cluster, path, between };
        let bulk = bulk(path);
        let from = between.map(|node| run.cluster.name(node));
        let back = [between[1], between[0]];
        let many = (bulk.0 * bulk.1 / LARGE).max(3);
        let all_reduce = |bytes| What::AllReduce { bytes };
        let plan: [Step<'_>; 5] = [
            ("sendrecv", between, (8, 8), 300, &|_| What::Latency),
            ("broadcast", between, (bulk.0, bulk.0), bulk.1, &|_| What::Bandwidth { from: from[0].clone() }),
            ("broadcast", back, (bulk.0, bulk.0), bulk.1, &|_| What::Bandwidth { from: from[1].clone() }),
            ("all-reduce", between, SMALL, 300, &all_reduce),
            ("all-reduce", between, (LARGE, LARGE), many, &all_reduce),
        ];
        let mut rows: Vec<Row> = Vec::new();
        for (collective, order, sizes, iterations, what) in plan {
            run.between = order;
            let measured = run.rows(collective, sizes, iterations, what, &rows)?;
            let failed = measured.iter().any(|row| matches!(row.verdict, Verdict::Fail(_)));
            rows.extend(measured);
            if failed {
                // What follows would fail likewise, each after its own time-out.
                break;
            }
        }
        Ok(rows)
    }
}

/// Bytes of a large message, and how many of them make up a second or two.
fn bulk(path: &Path) -> (u64, u64) {
    // What a software interface says of its speed means nothing, and a machine that makes its own network is slow.
    let told = path.link_gbit.filter(|_| path.kind != Kind::Virtual).unwrap_or(1.0);
    let gbit = told.min(path.slot_gbit.unwrap_or(f64::INFINITY));
    let bytes: u64 = if gbit < 5.0 { 16 << 20 } else { 64 << 20 };
    let fits = gbit * 1e9 / 8.0 * SECONDS / bytes as f64;
    (bytes, (fits as u64).clamp(3, 20))
}

/// Copies `own` into the launch's private folder on a node.
fn send(cluster: &mut Cluster, index: usize, own: Option<&File>) -> Result<String, ClusterError> {
    let node = cluster.name(index);
    let beside =
        || Some(std::env::current_exe().ok()?.parent()?.join("halo-perf")).filter(|path| path.is_file());
    let Some(path) = own.map(PathBuf::from).or_else(beside) else {
        return Err(VerifyError::NoPerf { node, version: env!("CARGO_PKG_VERSION").to_owned() }.into());
    };
    let refuse = |cause: String| VerifyError::Send { node: node.clone(), path: path.clone(), cause };
    let bytes = std::fs::read(&path).map_err(|error| refuse(error.to_string()))?;
    let mut place = String::new();
    for (number, piece) in bytes.chunks(1 << 20).enumerate() {
        let hex = piece.iter().fold(String::with_capacity(2 << 20), |mut text, byte| {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
            text
        });
        let request = json!({"op": "put", "name": "halo-perf", "first": number == 0, "hex": hex});
        let answer = cluster.ask(index, request, PATIENCE).map_err(|error| refuse(error.to_string()))?;
        answer["path"].as_str().unwrap_or_default().clone_into(&mut place);
    }
    Ok(place)
}

pub fn free_port(cluster: &mut Cluster, node: usize, path: &Path) -> Result<String, ClusterError> {
    let end = path.ends.iter().find(|end| end.node == cluster.name(node)).unwrap_or(&path.ends[0]);
    let job = Job::python(node, "ports", &MEASURE, &["ports", &end.address.to_string(), "1"]);
    let answer = cluster.run_each(vec![job], PATIENCE, |_, _| {})?;
    let answer: serde_json::Value = answer[0].answer().unwrap_or_default();
    Ok(answer["ports"][0].as_u64().unwrap_or_default().to_string())
}

/// A run: the collective, rank 0's node and rank 1's, smallest and largest size, iterations, and what a size measures.
type Step<'a> = (&'a str, [usize; 2], (u64, u64), u64, &'a dyn Fn(u64) -> What);

/// One run of halo-perf after the other on one path.
struct Run<'a> {
    bench: &'a Bench,
    cluster: &'a mut Cluster,
    path: &'a Path,
    /// Rank 0's node, rank 1's node.
    between: [usize; 2],
}

impl Run<'_> {
    /// One run, and a row for each size.
    fn rows(
        &mut self,
        collective: &str,
        sizes: (u64, u64),
        iterations: u64,
        what: &dyn Fn(u64) -> What,
        before: &[Row],
    ) -> Result<Vec<Row>, ClusterError> {
        let answers = self.run(collective, sizes, iterations)?;
        let failed = answers.iter().position(|answer| answer.status != 0 || answer.result.is_none());
        // Rank 0 alone reports.
        let failed = failed.filter(|rank| *rank == 0 || answers[*rank].status != 0);
        let row = |bytes: u64| Row {
            path: self.path.clone(),
            what: what(bytes),
            value: None,
            p99: None,
            expected: expect(self.path, &what(bytes), before),
            verdict: Verdict::Measured,
            proof: None,
        };
        if let Some(rank) = failed {
            let node = self.cluster.name(self.between[rank]);
            let mut row = row(sizes.0);
            row.verdict = Verdict::Fail(format!("on {node}: {}", answers[rank].said));
            return Ok(vec![row]);
        }
        let Some(perf) = answers[0].result.clone() else { return Ok(Vec::new()) };
        let payload: u64 = perf.rows.iter().map(|row| row.bytes * row.iterations).sum();
        let proof = proof(self.path, &answers[0].counted, payload);
        Ok(perf
            .rows
            .iter()
            .map(|measured| {
                let mut row = row(measured.bytes);
                let value = match row.what {
                    What::Bandwidth { .. } => measured.algbw_gbs * 8.0,
                    _ => measured.p50_us,
                };
                row.value = Some(value);
                row.p99 = (!matches!(row.what, What::Bandwidth { .. })).then_some(measured.p99_us);
                row.verdict = judge(&row.what, value, row.expected);
                match &proof {
                    Ok(words) => row.proof = Some(words.clone()),
                    Err(words) => row.verdict = Verdict::Fail(words.clone()),
                }
                row
            })
            .collect())
    }

    fn run(
        &mut self,
        collective: &str,
        sizes: (u64, u64),
        iterations: u64,
    ) -> Result<Vec<Answer>, ClusterError> {
        let port = free_port(self.cluster, self.between[0], self.path)?;
        let key = random_hex(32)?;
        let names = self.between.map(|node| self.cluster.name(node));
        let ends = names
            .map(|name| self.path.ends.iter().find(|end| end.node == name).expect("a path has its ends"));
        let meeting = match ends[0].address {
            std::net::IpAddr::V4(address) => format!("{address}:{port}"),
            std::net::IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let job = |rank: usize| {
            let end = ends[rank];
            let device = end.rdma.clone().filter(|_| self.path.carrier == Carrier::Rdma);
            let words = [
                "run",
                "/",
                &end.interface,
                device.as_deref().unwrap_or("-"),
                &self.bench.perf[self.between[rank]],
                collective,
                "--rank",
                &rank.to_string(),
                "--world",
                "2",
                "--rendezvous",
                &meeting,
                "--transport",
                self.path.carrier.name(),
                "--min",
                &sizes.0.to_string(),
                "--max",
                &sizes.1.to_string(),
                "--factor",
                &(sizes.1 / sizes.0).max(2).to_string(),
                "--iterations",
                &iterations.to_string(),
                "--warmup",
                if sizes.0 > 1 << 20 { "1" } else { "20" },
            ];
            let mut job = Job::python(self.between[rank], "measure", &MEASURE, &words);
            job.env = self.cluster.config.env.clone();
            job.env.insert(halo_env::HALO_TIMEOUT.name.to_owned(), CONNECT.to_owned());
            job.env.insert(halo_env::HALO_KEY.name.to_owned(), key.clone());
            job.env.insert(halo_env::HALO_ADDRESS.name.to_owned(), end.address.to_string());
            if let Some(device) = device {
                job.env.insert(halo_env::HALO_RDMA_DEVICE.name.to_owned(), device);
            }
            job
        };
        let jobs = vec![job(0), job(1)];
        let ended = self.cluster.run_each(jobs, PATIENCE, |_, _| {})?;
        let answer = |finished: &crate::cluster::run::Finished| {
            finished.answer().unwrap_or_else(|| Answer {
                result: None,
                counted: BTreeMap::new(),
                status: 1,
                said: finished.last_line().to_owned(),
            })
        };
        Ok(ended.iter().map(answer).collect())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::verify::paths::End;

    pub fn path(carrier: Carrier) -> Path {
        let end = |node: &str| End {
            node: node.to_owned(),
            interface: "enp1s0".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            rdma: Some("irdma0".to_owned()),
        };
        Path {
            kind: Kind::Roce,
            carrier,
            ends: [end("a"), end("b")],
            link_gbit: Some(100.0),
            slot_gbit: Some(63.0),
        }
    }

    #[test]
    fn a_slow_link_gets_less_to_carry() {
        let mut slow = path(Carrier::Tcp);
        slow.link_gbit = Some(1.0);
        assert_eq!(bulk(&slow), (16 << 20, 14));
        assert_eq!(bulk(&path(Carrier::Rdma)), (64 << 20, 20));
    }
}
