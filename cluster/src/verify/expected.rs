//! What a path should reach, and what is said of one that does not.

use serde::{Deserialize, Serialize};

use super::paths::{Carrier, Kind, Path};
use super::result::{Row, What};

/// How a row is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "lowercase")]
pub enum Verdict {
    /// As good as expected.
    Pass,
    /// Slower than expected.
    Slow(String),
    /// It could not be measured, or did not go this way.
    Fail(String),
    /// There is nothing to compare it with.
    Measured,
}

/// Latency may be this much more than expected, bandwidth this share of it.
const LATENCY: f64 = 1.5;
const BANDWIDTH: f64 = 0.8;
/// An all-reduce may take this many times what its bytes alone would.
const COLLECTIVE: f64 = 2.0;

/// One way, in microseconds: the public two-node guide's measurements on E810 cards and on gigabit Ethernet.
pub fn latency_us(path: &Path) -> Option<f64> {
    match (path.kind, path.carrier) {
        (Kind::Lan, Carrier::Tcp) => Some(74.0),
        (Kind::Roce, Carrier::Tcp) => Some(68.0),
        (Kind::Roce, Carrier::Rdma) => Some(5.23),
        // Nobody has published a figure for these.
        _ => None,
    }
}

/// Gb/s: what the guide reached of its links. 0.94 of gigabit Ethernet; 50.64 by RDMA and 55.7 by TCP through a slot of
/// 63 Gb/s.
pub fn gbit(path: &Path) -> Option<f64> {
    if path.kind == Kind::Virtual {
        return None;
    }
    let link = path.link_gbit.map(|link| link * 0.94);
    let share = if path.carrier == Carrier::Rdma { 50.64 / 63.0 } else { 55.7 / 63.0 };
    let slot = path.slot_gbit.map(|slot| slot * share);
    match (link, slot) {
        (Some(link), Some(slot)) => Some(link.min(slot)),
        (link, _) => link,
    }
}

/// The expectation of a row; for collectives it comes from what the same path measured: latency, and bytes at its
/// bandwidth.
pub fn expect(path: &Path, what: &What, measured: &[Row]) -> Option<f64> {
    let of = |wanted: fn(&What) -> bool| {
        let values =
            measured.iter().filter(|row| row.path == *path && wanted(&row.what)).filter_map(|row| row.value);
        values.reduce(f64::min)
    };
    match what {
        What::Latency => latency_us(path),
        What::Bandwidth { .. } => gbit(path),
        What::AllReduce { bytes } | What::Rccl { bytes } => {
            let latency = of(|what| matches!(what, What::Latency))?;
            let gbit = of(|what| matches!(what, What::Bandwidth { .. }))?;
            Some(latency + *bytes as f64 * 8.0 / (gbit * 1e3))
        }
    }
}

/// Judges a value.
pub fn judge(what: &What, value: f64, expected: Option<f64>) -> Verdict {
    let Some(expected) = expected else { return Verdict::Measured };
    let good = match what {
        What::Latency => value <= expected * LATENCY,
        What::Bandwidth { .. } => value >= expected * BANDWIDTH,
        What::AllReduce { .. } => value <= expected * COLLECTIVE,
        // Somebody else's collective is shown for comparison.
        What::Rccl { .. } => return Verdict::Measured,
    };
    let limit = match what {
        What::Latency => expected * LATENCY,
        What::Bandwidth { .. } => expected * BANDWIDTH,
        _ => expected * COLLECTIVE,
    };
    if good { Verdict::Pass } else { Verdict::Slow(format!("expected {limit:.1} or better")) }
}
