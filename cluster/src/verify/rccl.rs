//! The same all-reduces by RCCL, where it is there.

use serde::Deserialize;

use super::expected::Verdict;
use super::measure::{LARGE, PATIENCE, SMALL, free_port};
use super::paths::Path;
use super::result::{Row, What};
use crate::cluster::Cluster;
use crate::error::ClusterError;
use crate::plan::Job;

const RCCL: &str = include_str!("../../agent/rccl.py");

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RcclAnswer {
    Missing { missing: String },
    Rows { rows: Vec<RcclRow> },
}

#[derive(Debug, Deserialize)]
struct RcclRow {
    bytes: u64,
    p50_us: f64,
}

/// The same all-reduces by RCCL over the data addresses; why there are none, if so.
pub fn measure(
    cluster: &mut Cluster,
    path: &Path,
    between: [usize; 2],
) -> Result<Result<Vec<Row>, String>, ClusterError> {
    let sizes = [SMALL.0, SMALL.1, LARGE].map(|bytes| bytes.to_string()).join(",");
    let port = free_port(cluster, between[0], path)?;
    let address = path.ends[0].address.to_string();
    let job = |(rank, node): (usize, &usize)| {
        let interface = &path.ends[rank].interface;
        let mut job =
            Job::python(*node, "rccl", RCCL, &[&rank.to_string(), "2", &address, &port, interface, &sizes]);
        job.env.extend(cluster.config.env.clone());
        job
    };
    let jobs = between.iter().enumerate().map(job).collect();
    let ended = cluster.run_each(jobs, PATIENCE, |_, _| {})?;
    for answer in &ended {
        match answer.answer::<RcclAnswer>() {
            Some(RcclAnswer::Missing { missing }) => return Ok(Err(missing)),
            Some(RcclAnswer::Rows { .. }) => {}
            None => return Ok(Err(answer.last_line().to_owned())),
        }
    }
    let Some(RcclAnswer::Rows { rows }) = ended[0].answer() else { return Ok(Ok(Vec::new())) };
    let row = |row: RcclRow| Row {
        path: path.clone(),
        what: What::Rccl { bytes: row.bytes },
        value: Some(row.p50_us),
        p99: None,
        expected: None,
        verdict: Verdict::Measured,
        proof: None,
    };
    Ok(Ok(rows.into_iter().map(row).collect()))
}
