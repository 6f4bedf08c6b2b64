//! From what a link costs to where the protocol should change.
//!
//! A ring all-reduce of `S` bytes over `n` ranks is `2 (n - 1)` steps, each of which moves `S / n` bytes to the next
//! rank. A step of LL sends a flag with every four bytes: `latency + 2 S/n / bandwidth`. A step of Simple sends the data
//! alone, behind a fence and a hand-shake: `latency + handshake + S/n / bandwidth`. LL is the faster one up to
//! `S = n * handshake * bandwidth`, whatever the latency is. The latency decides how many channels are worth having: a
//! second one can only overlap what is on the wire, which is less than the latency up to `S = n * latency * bandwidth / 2`.

use std::fmt::Write as _;

use crate::table::{Algorithm, Collective, Link, Protocol, Rule, Table};

/// What a step of Simple costs more than a step of LL, in microseconds: the difference of the two in RCCL's own model of
/// a ring over a network (`hwLat` in its `tuning.cc`, the model for GPUs without one of their own: 15.1 and 9.5 us).
/// NCCL's says 11.3 (14.0 and 2.7 us). It is the GPU's matter, so it cannot be measured without one.
pub const HANDSHAKE_US: f64 = 5.6;

/// Rule counts: the fewest ranks decide for each group, since the limits grow with the ranks.
const GROUPS: [(usize, usize); 3] = [(2, 2), (3, 4), (5, 8)];

/// What one step between two neighbours costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkCost {
    /// Which kind of link.
    pub link: Link,
    /// One way, in microseconds, for a message of next to no bytes.
    pub latency_us: f64,
    /// What the link carries, in bytes per microsecond (MB/s).
    pub bandwidth: f64,
    /// What Simple costs more than LL, in microseconds.
    pub handshake_us: f64,
}

impl LinkCost {
    /// The largest all-reduce, in bytes, for which LL is not slower than Simple.
    pub fn low_latency_limit(&self, ranks: usize) -> u64 {
        in_kib(ranks as f64 * self.handshake_us * self.bandwidth)
    }

    /// The largest all-reduce, in bytes, for which LL needs no second channel.
    pub fn one_channel_limit(&self, ranks: usize) -> u64 {
        in_kib(ranks as f64 * self.latency_us * self.bandwidth / 2.0)
    }

    /// The rules, each with how its limit came to be.
    fn rules(&self) -> Vec<(String, Rule)> {
        let rule = |(min, max), max_bytes, protocol, channels| Rule {
            collective: Collective::AllReduce,
            min_ranks: Some(min),
            max_ranks: Some(max),
            link: Some(self.link),
            max_bytes,
            algorithm: Algorithm::Ring,
            protocol,
            channels,
        };
        let Self { latency_us, bandwidth, handshake_us, .. } = self;
        let mut rules = Vec::new();
        for group in GROUPS {
            let ranks = group.0;
            let (one, all) = (self.one_channel_limit(ranks), self.low_latency_limit(ranks));
            let because = format!("{ranks} x {handshake_us:.1} us x {bandwidth:.0} bytes/us = {all}");
            if one.min(all) > 0 {
                let why = if one < all {
                    format!("{ranks} x {latency_us:.1} us x {bandwidth:.0} bytes/us / 2 = {one}")
                } else {
                    because.clone()
                };
                rules.push((why, rule(group, Some(one.min(all)), Protocol::Ll, Some(1))));
            }
            if one < all {
                rules.push((because, rule(group, Some(all), Protocol::Ll, Some(2))));
            }
        }
        let rest = rule((GROUPS[0].0, GROUPS[2].1), None, Protocol::Simple, None);
        rules.push(("above those".to_owned(), rest));
        rules
    }

    /// The table for this link.
    pub fn table(&self) -> Table {
        Table { rules: self.rules().into_iter().map(|(_, rule)| rule).collect() }
    }

    /// The table's file, which says how each number came to be; `measured` says where and how the link was measured.
    pub fn to_text(&self, measured: &str) -> String {
        let Self { latency_us, bandwidth, handshake_us, .. } = self;
        let origin = if (handshake_us - HANDSHAKE_US).abs() < 1e-9 {
            "from RCCL's own model of a ring over a network, not measured: Simple 15.1 us, LL 9.5 us"
        } else {
            "as given on the command line"
        };
        let mut text = format!(
            "\
# Written by `halo-perf tune-plugin`. Copy it to every host and set HALO_TUNER_FILE to its path there.
#
# {measured}
#   latency     {latency_us:.2} us, half a round trip of 8 bytes
#   bandwidth   {bandwidth:.0} bytes/us, from what 1 MiB takes longer than 64 KiB
#   hand-shake  {handshake_us:.1} us, {origin}
#
# A ring all-reduce of S bytes over n ranks is 2 (n - 1) steps of S/n bytes. One step takes
#   LL      latency + 2 S/n / bandwidth             (4 bytes of flag with every 4 bytes of data)
#   Simple  latency + hand-shake + S/n / bandwidth
# so LL is not slower up to S = n x hand-shake x bandwidth; and one channel is enough while a step of LL spends less time
# on the wire than its latency, up to S = n x latency x bandwidth / 2. Limits are in whole KiB, and those of the fewest
# ranks of a rule. The first rule that fits decides.
"
        );
        for (why, rule) in self.rules() {
            let one = Table { rules: vec![rule] };
            let _ = write!(text, "\n# {why}\n{}", one.to_text());
        }
        text
    }
}

/// Whole KiB; what is written is what the limits are, not more exact than they are.
fn in_kib(bytes: f64) -> u64 {
    (bytes / 1024.0) as u64 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const E810: LinkCost =
        LinkCost { link: Link::Rdma, latency_us: 4.0, bandwidth: 5000.0, handshake_us: HANDSHAKE_US };

    /// Microseconds of a ring all-reduce, as the module's documentation has it.
    fn time(cost: &LinkCost, ranks: usize, bytes: f64, protocol: Protocol) -> f64 {
        let wire = bytes / ranks as f64 / cost.bandwidth;
        let step = match protocol {
            Protocol::Simple => cost.latency_us + cost.handshake_us + wire,
            _ => cost.latency_us + 2.0 * wire,
        };
        2.0 * (ranks as f64 - 1.0) * step
    }

    #[test]
    fn the_limits_of_a_known_link_are_what_the_formulas_say() {
        assert_eq!((E810.one_channel_limit(2), E810.low_latency_limit(2)), (19 << 10, 54 << 10));
        let table = E810.table();
        let found = |ranks, bytes| {
            let rule = table.find(Collective::AllReduce, ranks, bytes, Link::Rdma).unwrap();
            (rule.protocol, rule.channels)
        };
        assert_eq!(found(2, 8192), (Protocol::Ll, Some(1)));
        assert_eq!(found(2, 50_000), (Protocol::Ll, Some(2)));
        assert_eq!(found(2, 60_000), (Protocol::Simple, None));
        assert_eq!(found(4, 60_000), (Protocol::Ll, Some(2)), "each rank has a smaller part");
        assert_eq!(table.find(Collective::AllReduce, 9, 8192, Link::Rdma), None);
        assert_eq!(table.find(Collective::AllReduce, 2, 8192, Link::Tcp), None);
    }

    proptest! {
        #[test]
        fn below_its_limit_low_latency_is_not_slower_and_the_file_is_read_as_it_is_meant(
            latency_us in 0.5f64..500.0, bandwidth in 10.0f64..50_000.0, handshake_us in 0.1f64..100.0,
            ranks in 2usize..=8, bytes in 1u64..1 << 26,
        ) {
            let cost = LinkCost { link: Link::Tcp, latency_us, bandwidth, handshake_us };
            let table = Table::read(&cost.to_text("Somewhere.")).unwrap();
            prop_assert_eq!(&table, &cost.table());
            let rule = table.find(Collective::AllReduce, ranks, bytes, Link::Tcp).unwrap();
            if rule.protocol == Protocol::Ll {
                let of = |protocol| time(&cost, ranks, bytes as f64, protocol);
                prop_assert!(of(Protocol::Ll) <= of(Protocol::Simple) * 1.000_001);
                prop_assert!(matches!(rule.channels, Some(1 | 2)));
            }
        }
    }
}
