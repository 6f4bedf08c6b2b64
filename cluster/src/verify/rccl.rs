//! The same all-reduces by RCCL, where it is installed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::expected::{Verdict, expect};
use super::measure::{LARGE, PATIENCE, SMALL, free_port};
use super::paths::{Carrier, Path};
use super::proof::proof;
use super::result::{Row, What};
use crate::cluster::Cluster;
use crate::cluster::run::Finished;
use crate::error::ClusterError;
use crate::facts::Facts;
use crate::plan::Job;
use crate::script::RCCL;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Version(String),
    Missing(String),
}

/// What a rank measured.
#[derive(Debug, Deserialize)]
struct Answer {
    rows: Vec<Measured>,
    counted: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Measured {
    bytes: u64,
    p50_us: f64,
    p99_us: f64,
    /// Bytes that the rank sent, the untimed rounds among them.
    sent: u64,
}

/// RCCL's version on every node, or which node has none, and why.
pub fn find(cluster: &mut Cluster) -> Result<Result<String, String>, ClusterError> {
    let nodes = 0..cluster.config.nodes.len();
    let job = |node| {
        let mut job = Job::python(node, "rccl", &RCCL, &["find"]);
        job.env = cluster.config.env.clone();
        job
    };
    let jobs = nodes.clone().map(job).collect();
    let ended = cluster.run_each(jobs, PATIENCE, |_, _| {})?;
    let mut versions = Vec::new();
    for (node, ended) in nodes.zip(&ended) {
        match ended.answer() {
            Some(Found::Version(version)) => versions.push(version),
            Some(Found::Missing(missing)) => {
                return Ok(Err(format!("none on {}: {missing}", cluster.name(node))));
            }
            None => return Ok(Err(format!("none on {}: {}", cluster.name(node), ended.last_line()))),
        }
    }
    versions.dedup();
    Ok(Ok(versions.join(", ")))
}

/// RCCL's all-reduces on one path. `before` are the rows that are known of it.
pub fn measure(
    cluster: &mut Cluster,
    path: &Path,
    between: [usize; 2],
    facts: &[Facts],
    before: &[Row],
) -> Result<Vec<Row>, ClusterError> {
    let sizes = [SMALL.0, SMALL.1, LARGE].map(|bytes| bytes.to_string()).join(",");
    let port = free_port(cluster, between[0], path)?;
    let address = path.ends[0].address.to_string();
    let job = |rank: usize| {
        let end = &path.ends[rank];
        let device = end.rdma.as_deref().filter(|_| path.carrier == Carrier::Rdma).unwrap_or("-");
        let rank_word = rank.to_string();
        let words = ["run", "/", &end.interface, device, &rank_word, "2", &address, &port, &sizes];
        let mut job = Job::python(between[rank], "rccl", &RCCL, &words);
        job.env = cluster.config.env.clone();
        job.env.extend(on_this_path(path, rank, &facts[between[rank]]));
        job
    };
    let jobs = vec![job(0), job(1)];
    let ended = cluster.run_each(jobs, PATIENCE, |_, _| {})?;
    let failed = ended.iter().position(|ended| ended.status != 0 || ended.answer::<Answer>().is_none());
    let failed = failed.map(|rank| (cluster.name(between[rank]), &ended[rank]));
    Ok(match (failed, ended[0].answer()) {
        (None, Some(answer)) => rows(path, &answer, before),
        (failed, _) => vec![failure(path, failed)],
    })
}

/// The variables that keep RCCL on this path, whatever else the configuration tells it.
fn on_this_path(path: &Path, rank: usize, facts: &Facts) -> BTreeMap<String, String> {
    let end = &path.ends[rank];
    let mut env = BTreeMap::from([("NCCL_SOCKET_IFNAME".to_owned(), format!("={}", end.interface))]);
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    if let (Some(device), Carrier::Rdma) = (&end.rdma, path.carrier) {
        set("NCCL_NET", "IB".to_owned());
        set("NCCL_IB_DISABLE", "0".to_owned());
        set("NCCL_IB_HCA", format!("={device}"));
        let device = facts.rdma.iter().find(|known| known.name == *device);
        if let Some(gid) = device.and_then(|device| device.roce_v2_gid(end.address)) {
            set("NCCL_IB_GID_INDEX", gid.index.to_string());
        }
    } else {
        set("NCCL_NET", "Socket".to_owned());
        set("NCCL_IB_DISABLE", "1".to_owned());
    }
    env
}

fn row(path: &Path, bytes: u64) -> Row {
    let (value, p99, expected, proof) = (None, None, None, None);
    Row {
        path: path.clone(),
        what: What::Rccl { bytes },
        value,
        p99,
        expected,
        verdict: Verdict::Measured,
        proof,
    }
}

/// A row for each size, none of them judged: it is somebody else's collective. But it must have gone this way.
fn rows(path: &Path, answer: &Answer, before: &[Row]) -> Vec<Row> {
    let sent = answer.rows.iter().map(|measured| measured.sent).sum();
    let proof = proof(path, &answer.counted, sent);
    let row = |measured: &Measured| {
        let mut row = row(path, measured.bytes);
        row.value = Some(measured.p50_us);
        row.p99 = Some(measured.p99_us);
        row.expected = expect(path, &row.what, before);
        match &proof {
            Ok(words) => row.proof = Some(words.clone()),
            Err(words) => row.verdict = Verdict::Fail(words.clone()),
        }
        row
    };
    answer.rows.iter().map(row).collect()
}

/// The one row of a run that failed.
fn failure(path: &Path, failed: Option<(String, &Finished)>) -> Row {
    let mut row = row(path, SMALL.0);
    let words = failed.map(|(node, ended)| format!("on {node}: {}", ended.last_line()));
    row.verdict = Verdict::Fail(words.unwrap_or_default());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;
    use crate::verify::measure::tests::path;

    fn answer(counted: u64) -> Answer {
        let rows = vec![Measured { bytes: 8192, p50_us: 46.0, p99_us: 60.0, sent: 1 << 20 }];
        Answer { rows, counted: BTreeMap::from([("tx_bytes".to_owned(), counted)]) }
    }

    #[test]
    fn rccl_is_kept_on_the_path_whose_row_it_is() {
        let facts = recorded::fedora();
        let device = facts.rdma[0].clone();
        let gid = device.gids.iter().find(|gid| gid.kind == "RoCE v2" && gid.gid.contains("ffff")).unwrap();
        let mut path = path(Carrier::Rdma);
        path.ends[0].rdma = Some(device.name.clone());
        let mapped: std::net::Ipv6Addr = gid.gid.parse().unwrap();
        path.ends[0].address = mapped.to_ipv4_mapped().unwrap().into();
        let env = on_this_path(&path, 0, &facts);
        assert_eq!(env["NCCL_NET"], "IB");
        assert_eq!(env["NCCL_IB_HCA"], format!("={}", device.name));
        assert_eq!(env["NCCL_IB_GID_INDEX"], gid.index.to_string());
        path.carrier = Carrier::Tcp;
        let env = on_this_path(&path, 0, &facts);
        assert_eq!((env["NCCL_NET"].as_str(), env["NCCL_IB_DISABLE"].as_str()), ("Socket", "1"));
        assert_eq!(env["NCCL_SOCKET_IFNAME"], "=enp1s0");
        assert!(!env.contains_key("NCCL_IB_HCA"));
    }

    #[test]
    fn what_went_another_way_is_no_measurement_of_this_one() {
        let path = path(Carrier::Tcp);
        let good = rows(&path, &answer(2 << 20), &[]);
        assert_eq!((good[0].value, &good[0].verdict), (Some(46.0), &Verdict::Measured));
        assert_eq!(good[0].proof.as_deref(), Some("2 MiB over enp1s0"));
        let bad = rows(&path, &answer(4096), &[]);
        assert!(matches!(&bad[0].verdict, Verdict::Fail(cause) if cause.contains("another way")), "{bad:?}");
    }

    #[test]
    fn a_rank_that_failed_is_named_with_its_last_words() {
        let ended = Finished { status: 1, lines: vec!["RuntimeError: NCCL error".to_owned(), String::new()] };
        let row = failure(&path(Carrier::Tcp), Some(("b".to_owned(), &ended)));
        assert_eq!(row.verdict, Verdict::Fail("on b: RuntimeError: NCCL error".to_owned()));
        assert_eq!((row.value, row.what), (None, What::Rccl { bytes: 8192 }));
    }
}
