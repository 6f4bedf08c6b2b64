//! What halo is to reach, against whom.

use crate::peers::{Peer, Place};
use crate::results::{Quantile, Results, bus_bandwidth};

/// A bound on a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// halo's time by the peer's is at most this.
    TimeAtMost(f64),
    /// halo's bus bandwidth by the best of the peers' is at least this.
    BandwidthAtLeast(f64),
}

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Where.
    pub place: Place,
    /// At which size.
    pub bytes: usize,
    /// Over which quantile.
    pub quantile: Quantile,
    /// Against the better of these.
    pub against: &'static [Peer],
    /// How far.
    pub bound: Bound,
    /// What two ranks cannot do without: where its own time is beyond the bound, nobody's can be within.
    pub floor: Option<Peer>,
}

impl Target {
    const fn above(self, floor: Peer) -> Self {
        Self { floor: Some(floor), ..self }
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const fn target(
    place: Place,
    bytes: usize,
    quantile: Quantile,
    against: &'static [Peer],
    bound: Bound,
) -> Target {
    Target { place, bytes, quantile, against, bound, floor: None }
}

/// Every target of a two-rank sum, and of the plugin's messages.
pub const TARGETS: &[Target] = {
    use Bound::{BandwidthAtLeast, TimeAtMost};
    use Peer::{
        Exchange, ExchangeFlagSum, ExchangeSum, FabricWrite, Floor, Gloo, IbWriteBw, IbWriteBwOneWay,
        IbWriteLat, Iperf3, OpenMpi,
    };
    use Place::{OneMachine, PluginOneMachine, PluginRdma, PluginTcp, Shm, Tcp, TwoMachines};
    use Quantile::{P10, P50};
    &[
        target(Shm, 8, P50, &[OpenMpi], TimeAtMost(1.0)),
        target(Shm, 8 * KIB, P50, &[OpenMpi], TimeAtMost(0.4)),
        target(Shm, 64 * KIB, P50, &[OpenMpi], TimeAtMost(0.5)),
        target(Shm, 64 * MIB, P50, &[OpenMpi], BandwidthAtLeast(1.5)),
        target(Tcp, 8 * KIB, P50, &[OpenMpi], TimeAtMost(0.8)).above(ExchangeFlagSum),
        target(Tcp, 8 * KIB, P50, &[Gloo], TimeAtMost(0.1)),
        // The same calls with nothing around them, and the addition: what two ranks cannot do without.
        target(Tcp, 8 * KIB, P50, &[ExchangeFlagSum], TimeAtMost(1.3)),
        target(Tcp, 64 * MIB, P50, &[OpenMpi, Gloo], BandwidthAtLeast(1.3)),
        // A payload of 8 bytes needs no flag of its own: both are one write.
        target(OneMachine, 8, P10, &[IbWriteLat], TimeAtMost(1.3)).above(ExchangeSum),
        target(OneMachine, 8 * KIB, P10, &[IbWriteLat], TimeAtMost(1.3)).above(ExchangeFlagSum),
        target(OneMachine, 16 * KIB, P10, &[IbWriteLat], TimeAtMost(1.3)).above(ExchangeFlagSum),
        target(OneMachine, 48 * KIB, P10, &[IbWriteLat], TimeAtMost(1.3)).above(ExchangeFlagSum),
        target(TwoMachines, 8 * KIB, P10, &[IbWriteLat], TimeAtMost(1.3)).above(ExchangeFlagSum),
        // What two ranks cannot do without there: both directions at once, and an emulated addition.
        target(OneMachine, 8, P10, &[ExchangeSum], TimeAtMost(1.3)),
        target(OneMachine, 8 * KIB, P10, &[ExchangeSum], TimeAtMost(1.3)),
        target(OneMachine, 16 * KIB, P10, &[ExchangeSum], TimeAtMost(1.3)),
        target(OneMachine, 48 * KIB, P10, &[ExchangeSum], TimeAtMost(1.3)),
        target(TwoMachines, 8 * KIB, P10, &[ExchangeSum], TimeAtMost(1.3)),
        // And a flag behind the payload, since bytes of one write may come in any order.
        target(OneMachine, 8 * KIB, P10, &[ExchangeFlagSum], TimeAtMost(1.3)),
        target(OneMachine, 16 * KIB, P10, &[ExchangeFlagSum], TimeAtMost(1.3)),
        target(OneMachine, 48 * KIB, P10, &[ExchangeFlagSum], TimeAtMost(1.3)),
        target(TwoMachines, 8 * KIB, P10, &[ExchangeFlagSum], TimeAtMost(1.3)),
        // ib_write_bw tells an average, which the median is nearer to. What must be added is half of what is written, in
        // between, so writes alone are what nobody can do without.
        target(TwoMachines, 4 * MIB, P50, &[IbWriteBw], BandwidthAtLeast(0.85)).above(Exchange),
        target(TwoMachines, 8 * KIB, P10, &[OpenMpi], TimeAtMost(0.6)).above(ExchangeFlagSum),
        target(PluginTcp, 64 * MIB, P50, &[Iperf3], BandwidthAtLeast(1.0)),
        // 64 MiB as NCCL sends it: in messages of 512 KiB, from a buffer that stays in the cache as iperf3's does.
        target(PluginTcp, 512 * KIB, P50, &[Iperf3], BandwidthAtLeast(1.0)),
        // What bare sockets reach from memory to memory, which iperf3 does not do.
        target(PluginTcp, 64 * MIB, P50, &[Floor], BandwidthAtLeast(1.0)),
        target(PluginTcp, 512 * KIB, P50, &[Floor], BandwidthAtLeast(1.0)),
        target(PluginOneMachine, 8 * KIB, P10, &[FabricWrite], TimeAtMost(1.2)),
        target(PluginRdma, 8 * KIB, P10, &[FabricWrite], TimeAtMost(1.2)),
        // One write and nothing else, which the fabric does not do: it raises a flag behind the payload.
        target(PluginOneMachine, 8 * KIB, P10, &[IbWriteLat], TimeAtMost(1.2)),
        target(PluginRdma, 8 * KIB, P10, &[IbWriteLat], TimeAtMost(1.2)),
        target(PluginRdma, 4 * MIB, P50, &[IbWriteBwOneWay], BandwidthAtLeast(0.9)),
    ]
};

/// A target beside what was measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Verdict {
    /// Where, at which size.
    pub what: String,
    /// halo's figure.
    pub ours: String,
    /// The peer's.
    pub theirs: String,
    /// The ratio that the bound is about: of peers, the median over the rounds.
    pub ratio: f64,
    /// The lowest and the highest of the rounds, which say what the median is worth.
    pub span: Option<(f64, f64)>,
    /// The bound, in words.
    pub target: String,
    /// Whether it is kept.
    pub met: bool,
    /// The same ratio of what two ranks cannot do without, and whether that keeps the bound.
    pub floor: Option<Least>,
}

/// The least that anybody needs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Least {
    /// Who did no more than that.
    pub floor: String,
    /// Its time by the peer's, or its bandwidth.
    pub ratio: f64,
    /// Whether the bound can be kept.
    pub possible: bool,
}

impl Target {
    /// The verdict, if both sides were measured.
    pub fn verdict(&self, results: &Results) -> Option<Verdict> {
        // The better peer is the one that halo compares worst with.
        let compared = self.against.iter().filter_map(|peer| {
            let ratio = results.ratio_of(self.place, Peer::Halo, *peer, self.bytes, self.quantile)?;
            Some((*peer, ratio))
        });
        let (peer, times) = compared.max_by(|a, b| a.1.median.total_cmp(&b.1.median))?;
        let figure = |who: Peer| {
            let time = results.time(self.place, who, self.bytes, self.quantile)?;
            Some(match self.bound {
                Bound::TimeAtMost(_) => format!("{time:.2} us"),
                Bound::BandwidthAtLeast(_) => format!("{:.3} GB/s", bus_bandwidth(self.bytes, time)),
            })
        };
        let floor = self.floor.and_then(|floor| {
            let time = results.ratio_of(self.place, floor, peer, self.bytes, self.quantile)?.median;
            let floor = floor.to_string();
            Some(match self.bound {
                Bound::TimeAtMost(bound) => Least { floor, ratio: time, possible: time <= bound },
                Bound::BandwidthAtLeast(bound) => {
                    Least { floor, ratio: 1.0 / time, possible: 1.0 / time >= bound }
                }
            })
        });
        let (ratio, met, target) = match self.bound {
            Bound::TimeAtMost(bound) => {
                (times.median, times.median <= bound, format!("time <= {bound:.2} x {peer}"))
            }
            Bound::BandwidthAtLeast(bound) => {
                let ratio = 1.0 / times.median;
                (ratio, ratio >= bound, format!("bandwidth >= {bound:.2} x {peer}"))
            }
        };
        Some(Verdict {
            what: format!("{}, {}", self.place, size(self.bytes)),
            ours: figure(Peer::Halo)?,
            theirs: format!("{} ({peer})", figure(peer)?),
            ratio,
            span: Some(match self.bound {
                Bound::TimeAtMost(_) => (times.lowest, times.highest),
                Bound::BandwidthAtLeast(_) => (1.0 / times.highest, 1.0 / times.lowest),
            }),
            target,
            met,
            floor,
        })
    }
}

/// A size as people write it.
pub fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;

    fn results(times: &[(Peer, f64)], bytes: usize) -> Results {
        let mut results = Results::default();
        for (peer, p50_us) in times {
            let line = Line {
                bytes,
                dtype: "bf16".to_owned(),
                p10_us: *p50_us,
                p50_us: *p50_us,
                allocations: None,
                copied: None,
            };
            results.add(Place::Tcp, *peer, 0, vec![line]);
        }
        results
    }

    #[test]
    fn bandwidth_is_held_against_the_better_peer() {
        let target = target(
            Place::Tcp,
            100,
            Quantile::P50,
            &[Peer::OpenMpi, Peer::Gloo],
            Bound::BandwidthAtLeast(1.3),
        );
        let verdict = target
            .verdict(&results(&[(Peer::Halo, 10.0), (Peer::OpenMpi, 20.0), (Peer::Gloo, 12.0)], 100))
            .unwrap();
        assert!((verdict.ratio - 1.2).abs() < 1e-9 && !verdict.met, "{verdict:?}");
        assert!(verdict.theirs.contains("Gloo") && verdict.target.contains("1.30 x Gloo"), "{verdict:?}");
        assert_eq!(verdict.span, Some((1.2, 1.2)), "one round");
    }

    #[test]
    fn a_bound_below_the_floor_is_said_to_be_out_of_reach() {
        let target = target(Place::Tcp, 100, Quantile::P50, &[Peer::OpenMpi], Bound::TimeAtMost(0.5));
        let measured = [(Peer::Halo, 13.0), (Peer::OpenMpi, 20.0), (Peer::ExchangeFlagSum, 12.0)];
        let verdict = target.above(Peer::ExchangeFlagSum).verdict(&results(&measured, 100)).unwrap();
        let least = verdict.floor.unwrap();
        assert!((least.ratio - 0.6).abs() < 1e-9 && !least.possible && !verdict.met, "{least:?}");
        let target = Target { bound: Bound::BandwidthAtLeast(1.5), ..target }.above(Peer::ExchangeFlagSum);
        let least = target.verdict(&results(&measured, 100)).unwrap().floor.unwrap();
        assert!((least.ratio - 20.0 / 12.0).abs() < 1e-9 && least.possible, "{least:?}");
    }

    #[test]
    fn the_rounds_that_differ_most_are_told() {
        let mut rounds = results(&[(Peer::Halo, 10.0), (Peer::OpenMpi, 20.0)], 100);
        for (round, halo, openmpi) in [(1, 30.0, 20.0), (2, 12.0, 16.0)] {
            for (peer, time) in [(Peer::Halo, halo), (Peer::OpenMpi, openmpi)] {
                rounds.samples.extend(results(&[(peer, time)], 100).samples.into_iter().map(|mut sample| {
                    sample.round = round;
                    sample
                }));
            }
        }
        let time = target(Place::Tcp, 100, Quantile::P50, &[Peer::OpenMpi], Bound::TimeAtMost(0.8));
        let verdict = time.verdict(&rounds).unwrap();
        assert_eq!((verdict.ratio, verdict.span), (0.75, Some((0.5, 1.5))));
        let bandwidth = Target { bound: Bound::BandwidthAtLeast(1.0), ..time };
        assert_eq!(bandwidth.verdict(&rounds).unwrap().span, Some((1.0 / 1.5, 2.0)));
    }

    #[test]
    fn a_time_is_held_against_its_bound_and_what_was_not_measured_has_no_verdict() {
        let target = target(Place::Tcp, 100, Quantile::P50, &[Peer::OpenMpi], Bound::TimeAtMost(0.5));
        let verdict = target.verdict(&results(&[(Peer::Halo, 10.0), (Peer::OpenMpi, 20.0)], 100)).unwrap();
        assert!((verdict.ratio - 0.5).abs() < 1e-9 && verdict.met);
        assert_eq!(verdict.ours, "10.00 us");
        assert_eq!(target.verdict(&results(&[(Peer::Halo, 10.0)], 100)), None);
    }
}
