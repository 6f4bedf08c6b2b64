//! What was measured, and figures over the rounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::line::Line;
use crate::peers::{Peer, Place};

/// Which quantile of one run's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantile {
    /// 10th percentile: what a machine with other work hardly changes.
    P10,
    /// Median.
    P50,
}

/// One size in one run of one peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Where.
    pub place: Place,
    /// Who.
    pub peer: Peer,
    /// In which round.
    pub round: usize,
    /// What was measured.
    #[serde(flatten)]
    pub line: Line,
}

/// Who could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Where.
    pub place: Place,
    /// Who.
    pub peer: Peer,
    /// What the system said.
    pub reason: String,
}

/// Everything measured so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Every run.
    pub samples: Vec<Sample>,
    /// Whom this system does not let run.
    #[serde(default)]
    pub absent: Vec<Absent>,
}

/// One time by another, of the same rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// What counts.
    pub median: f64,
    /// Of the rounds.
    pub lowest: f64,
    /// Of the rounds.
    pub highest: f64,
}

impl Results {
    /// Takes in a run.
    pub fn add(&mut self, place: Place, peer: Peer, round: usize, lines: Vec<Line>) {
        self.samples.extend(lines.into_iter().map(|line| Sample { place, peer, round, line }));
    }

    /// The median over the rounds, in microseconds.
    pub fn time(&self, place: Place, peer: Peer, bytes: usize, quantile: Quantile) -> Option<f64> {
        median(self.rounds(place, peer, bytes, quantile).into_values())
    }

    /// The median over the rounds of halo's time by the peer's in the same round.
    pub fn ratio(&self, place: Place, peer: Peer, bytes: usize, quantile: Quantile) -> Option<f64> {
        Some(self.ratio_of(place, Peer::Halo, peer, bytes, quantile)?.median)
    }

    /// The same of anybody's time, and how far the rounds lie apart.
    pub fn ratio_of(
        &self,
        place: Place,
        who: Peer,
        peer: Peer,
        bytes: usize,
        quantile: Quantile,
    ) -> Option<Ratio> {
        let ours = self.rounds(place, who, bytes, quantile);
        let theirs = self.rounds(place, peer, bytes, quantile);
        let rounds = || ours.iter().filter_map(|(round, ours)| Some(ours / theirs.get(round)?));
        let (lowest, highest) = (rounds().fold(f64::INFINITY, f64::min), rounds().fold(0.0, f64::max));
        Some(Ratio { median: median(rounds())?, lowest, highest })
    }

    /// The share of a peer's sends that the kernel copied although it was asked not to: the median of all that were told.
    pub fn copied(&self, place: Place, peer: Peer) -> Option<f64> {
        let samples = self.samples.iter().filter(|sample| sample.place == place && sample.peer == peer);
        median(samples.filter_map(|sample| sample.line.copied))
    }

    /// The sizes measured at a place by anybody, ascending.
    pub fn sizes(&self, place: Place) -> Vec<usize> {
        let mut sizes: Vec<usize> = self
            .samples
            .iter()
            .filter(|sample| sample.place == place)
            .map(|sample| sample.line.bytes)
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// What a peer added there, such as `bf16`.
    pub fn dtype(&self, place: Place, peer: Peer) -> Option<&str> {
        let found = self.samples.iter().find(|sample| sample.place == place && sample.peer == peer);
        found.map(|sample| sample.line.dtype.as_str())
    }

    /// The time in each round. Who was measured in several pieces took what they took on average.
    fn rounds(&self, place: Place, peer: Peer, bytes: usize, quantile: Quantile) -> BTreeMap<usize, f64> {
        let mut pieces: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for Sample { round, line, .. } in self
            .samples
            .iter()
            .filter(|sample| (sample.place, sample.peer, sample.line.bytes) == (place, peer, bytes))
        {
            let time = match quantile {
                Quantile::P10 => line.p10_us,
                Quantile::P50 => line.p50_us,
            };
            pieces.entry(*round).or_default().push(time);
        }
        let average = |times: Vec<f64>| times.iter().sum::<f64>() / times.len() as f64;
        pieces.into_iter().map(|(round, times)| (round, average(times))).collect()
    }
}

/// Bus bandwidth of a two-rank all-reduce in GB/s: what each link carries each way.
pub fn bus_bandwidth(bytes: usize, microseconds: f64) -> f64 {
    bytes as f64 / microseconds / 1e3
}

/// The middle value.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(p50_us: f64) -> Vec<Line> {
        vec![Line {
            bytes: 8,
            dtype: "bf16".to_owned(),
            p10_us: p50_us / 2.0,
            p50_us,
            allocations: None,
            copied: None,
        }]
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        // The machine became ten times slower after the first round: the ratio does not change.
        let mut results = Results::default();
        for (round, slow) in [1.0, 10.0, 10.0].into_iter().enumerate() {
            results.add(Place::Shm, Peer::Halo, round, line(2.0 * slow));
            results.add(Place::Shm, Peer::OpenMpi, round, line(4.0 * slow));
        }
        results.add(Place::Shm, Peer::OpenMpi, 3, line(1e9));
        let close = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-9;
        assert!(close(results.ratio(Place::Shm, Peer::OpenMpi, 8, Quantile::P50), 0.5));
        assert!(close(results.time(Place::Shm, Peer::Halo, 8, Quantile::P10), 10.0));
        assert_eq!(results.ratio(Place::Shm, Peer::Gloo, 8, Quantile::P50), None);
        assert_eq!(results.sizes(Place::Shm), [8]);
    }

    #[test]
    fn several_pieces_of_a_round_are_one_figure() {
        let mut results = Results::default();
        for (halo, bandwidth) in [(3.0, 2.0), (5.0, 6.0)] {
            results.add(Place::PluginRdma, Peer::Halo, 1, line(halo));
            results.add(Place::PluginRdma, Peer::IbWriteBwOneWay, 1, line(bandwidth));
        }
        assert_eq!(results.time(Place::PluginRdma, Peer::Halo, 8, Quantile::P50), Some(4.0));
        assert_eq!(results.ratio(Place::PluginRdma, Peer::IbWriteBwOneWay, 8, Quantile::P50), Some(1.0));
    }

    #[test]
    fn medians_of_even_counts_lie_between() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
