//! What rank 0 prints: the columns of nccl-tests, and p50 and p99.

use std::path::Path;
use std::time::Duration;

use halo_ccl::{Communicator, DType, Kind, LinkStatistics, RailStatistics, ReduceOp};
use serde::Serialize;

use crate::args::Choices;
use crate::error::Error;
use crate::output;

/// What was measured, and over what.
#[derive(Debug, Serialize)]
pub(crate) struct Header {
    halo: &'static str,
    collective: &'static str,
    ranks: usize,
    dtype: String,
    op: String,
    arena_bytes: usize,
    arena_pages: String,
    links: Vec<Link>,
}

#[derive(Debug, Serialize)]
struct Link {
    peer: usize,
    host: String,
    transport: &'static str,
    reason: String,
}

impl Header {
    pub(crate) fn new(kind: Kind, choices: Choices, communicator: &Communicator) -> Self {
        let link = |link: &halo_ccl::LinkInfo| Link {
            peer: link.peer,
            host: link.host.clone(),
            transport: link.transport.name(),
            reason: link.reason.clone(),
        };
        Self {
            halo: env!("CARGO_PKG_VERSION"),
            collective: kind.name(),
            ranks: communicator.world(),
            dtype: choices.dtype.to_string(),
            op: choices.op.to_string(),
            arena_bytes: communicator.arena_bytes(),
            arena_pages: communicator.arena_pages().to_owned(),
            links: communicator.links().iter().map(link).collect(),
        }
    }
}

/// One size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    bytes: usize,
    count: usize,
    #[serde(rename = "type")]
    dtype: String,
    op: String,
    time_us: f64,
    algbw_gbs: f64,
    busbw_gbs: f64,
    pub(crate) wrong: Option<u64>,
    p50_us: f64,
    p99_us: f64,
    min_us: f64,
    iterations: usize,
}

impl Row {
    #[allow(clippy::too_many_arguments, reason = "one row has these many facts")]
    pub(crate) fn new(
        kind: Kind,
        bytes: usize,
        dtype: DType,
        op: ReduceOp,
        ranks: usize,
        samples: &[Duration],
        operations_per_sample: u32,
        wrong: Option<u64>,
    ) -> Self {
        let mut sorted: Vec<f64> = samples
            .iter()
            .map(|sample| sample.as_secs_f64() * 1e6 / f64::from(operations_per_sample))
            .collect();
        sorted.sort_by(f64::total_cmp);
        let quantile =
            |fraction: f64| sorted[((sorted.len() as f64 * fraction) as usize).min(sorted.len() - 1)];
        let time_us = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let algbw_gbs = bytes as f64 / time_us / 1e3;
        let reduces = matches!(kind, Kind::AllReduce | Kind::ReduceScatter | Kind::Reduce);
        Self {
            bytes,
            count: bytes / dtype.size(),
            dtype: dtype.to_string(),
            op: if reduces { op.to_string() } else { "none".to_owned() },
            time_us,
            algbw_gbs,
            busbw_gbs: algbw_gbs * bus_factor(kind, ranks),
            wrong,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            min_us: sorted[0],
            iterations: sorted.len(),
        }
    }
}

/// What a link carries per byte of the collective, as nccl-tests defines it.
fn bus_factor(kind: Kind, ranks: usize) -> f64 {
    let ranks = ranks as f64;
    match kind {
        Kind::AllReduce => 2.0 * (ranks - 1.0) / ranks,
        Kind::AllGather | Kind::ReduceScatter | Kind::Gather | Kind::Scatter | Kind::AllToAll => {
            (ranks - 1.0) / ranks
        }
        Kind::Broadcast | Kind::Reduce | Kind::SendRecv | Kind::Barrier => 1.0,
    }
}

/// A report under way: rows are printed as they come.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    header: Header,
    rows: Vec<Row>,
    /// Where links have several rails, what each has carried in all sizes.
    rails: Vec<Rail>,
}

#[derive(Debug, Serialize)]
struct Rail {
    peer: usize,
    #[serde(flatten)]
    rail: RailStatistics,
}

impl Report {
    pub(crate) fn begin(header: Header) -> Self {
        println!(
            "# halo {}  {}  {} ranks  {} {}",
            header.halo, header.collective, header.ranks, header.dtype, header.op
        );
        for link in &header.links {
            println!("# rank 0 to rank {} on {}: {} ({})", link.peer, link.host, link.transport, link.reason);
        }
        println!("# arena of {} bytes a rank: {}", header.arena_bytes, header.arena_pages);
        println!(
            "#{:>11} {:>11} {:>10} {:>6} {:>10} {:>8} {:>8} {:>7} {:>10} {:>10}",
            "size", "count", "type", "op", "time", "algbw", "busbw", "wrong", "p50", "p99"
        );
        println!(
            "#{:>11} {:>11} {:>10} {:>6} {:>10} {:>8} {:>8} {:>7} {:>10} {:>10}",
            "(B)", "(elements)", "", "", "(us)", "(GB/s)", "(GB/s)", "", "(us)", "(us)"
        );
        Self { header, rows: Vec::new(), rails: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        let wrong = row.wrong.map_or_else(|| "n/a".to_owned(), |wrong| wrong.to_string());
        println!(
            " {:>11} {:>11} {:>10} {:>6} {:>10.2} {:>8.3} {:>8.3} {:>7} {:>10.2} {:>10.2}",
            row.bytes,
            row.count,
            row.dtype,
            row.op,
            row.time_us,
            row.algbw_gbs,
            row.busbw_gbs,
            wrong,
            row.p50_us,
            row.p99_us
        );
        self.rows.push(row);
    }

    /// What each rail has carried, and why it is left out if it is.
    pub(crate) fn add_rails(&mut self, links: Vec<LinkStatistics>) {
        for link in links {
            for rail in link.rails {
                let state = rail.lost.as_ref().map(|cause| format!(", LOST: {cause}")).unwrap_or_default();
                println!("# rail {} to rank {}: {} bytes sent{state}", rail.name, link.peer, rail.bytes_sent);
                self.rails.push(Rail { peer: link.peer, rail });
            }
        }
    }

    pub(crate) fn end(self, json: Option<&Path>) -> Result<(), Error> {
        let Some(path) = json else { return Ok(()) };
        let text = serde_json::to_string_pretty(&self).expect("a report is plain data");
        output::write(path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_factors_are_those_of_nccl_tests() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(bus_factor(Kind::AllReduce, 2), 1.0));
        assert!(near(bus_factor(Kind::AllReduce, 4), 1.5));
        assert!(near(bus_factor(Kind::AllGather, 4), 0.75));
        assert!(near(bus_factor(Kind::Broadcast, 4), 1.0));
    }
}
