//! From two readings of counters to what is shown: rates, shares, a histogram.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::prometheus::Figures;
use crate::state::{RankState, State};

/// What a node's script answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Sample {
    /// Seconds of the node's own clock.
    pub at: f64,
    pub cpu_total: u64,
    pub cpu_idle: u64,
    pub memory_total: u64,
    pub memory_available: u64,
    pub gpus: Vec<Gpu>,
    pub celsius: Option<f64>,
    pub links: Vec<Counters>,
}

/// A GPU as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    pub card: String,
    pub busy_percent: Option<u64>,
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
    pub celsius: Option<f64>,
    pub watts: Option<f64>,
}

/// An interface's counters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Counters {
    pub interface: String,
    pub carrier: bool,
    pub speed_mbit: Option<i64>,
    pub received: Option<u64>,
    pub sent: Option<u64>,
    pub errors: u64,
    pub rdma: BTreeMap<String, u64>,
}

/// All that is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    pub launch: Option<Launch>,
    pub nodes: Vec<Node>,
    pub collectives: Vec<Collective>,
    /// Latencies of all-reduces, by power of two: upper bound in microseconds and how many.
    pub histogram: Vec<(f64, u64)>,
    /// The fastest all-reduce that `verify` measured between the nodes, in microseconds.
    pub floor_us: Option<f64>,
    pub vllm: Option<Vllm>,
}

/// The launch, if there is one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Launch {
    pub phase: String,
    pub model: String,
    pub endpoint: String,
    pub transport: String,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    pub name: String,
    /// Why nothing is known of it.
    pub error: Option<String>,
    pub now: Option<Now>,
}

/// One machine, now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Now {
    pub cpu_percent: f64,
    pub memory_used: u64,
    pub memory_total: u64,
    pub celsius: Option<f64>,
    pub gpus: Vec<Gpu>,
    pub links: Vec<Link>,
}

/// One interface, now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    pub interface: String,
    pub carrier: bool,
    pub speed_mbit: Option<i64>,
    pub received_per_second: f64,
    pub sent_per_second: f64,
    /// Errors and drops since the machine started.
    pub errors: u64,
    /// RDMA counters that moved, per second.
    pub rdma_per_second: BTreeMap<String, f64>,
}

/// One kind of collective of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collective {
    pub group: String,
    pub operation: String,
    pub transport: String,
    /// Of one rank: all do the same.
    pub per_second: f64,
    pub bytes_per_second: f64,
    pub count: u64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// vLLM, now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vllm {
    pub generated_tokens_per_second: f64,
    pub prompt_tokens_per_second: f64,
    pub running: f64,
    pub waiting: f64,
    pub cache_percent: f64,
}

impl Snapshot {
    /// Whether every node has its rates or its error.
    pub fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.error.is_some() || node.now.is_some())
    }
}

/// How much of a counter came in `seconds`; a counter that went back has begun anew.
fn rate(before: u64, after: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { after.saturating_sub(before) as f64 / seconds } else { 0.0 }
}

impl Now {
    /// What happened between two samples.
    pub fn between(before: &Sample, after: &Sample) -> Self {
        let seconds = after.at - before.at;
        let total = after.cpu_total.saturating_sub(before.cpu_total);
        let idle = after.cpu_idle.saturating_sub(before.cpu_idle);
        let busy = if total == 0 { 0.0 } else { 100.0 * total.saturating_sub(idle) as f64 / total as f64 };
        let earlier = |name: &str| before.links.iter().find(|link| link.interface == name);
        let links = after
            .links
            .iter()
            .filter_map(|link| Some(Link::between(earlier(&link.interface)?, link, seconds)));
        Self {
            cpu_percent: busy,
            memory_used: after.memory_total.saturating_sub(after.memory_available),
            memory_total: after.memory_total,
            celsius: after.celsius,
            gpus: after.gpus.clone(),
            links: links.collect(),
        }
    }
}

impl Link {
    fn between(before: &Counters, after: &Counters, seconds: f64) -> Self {
        let bytes = |what: fn(&Counters) -> Option<u64>| {
            rate(what(before).unwrap_or_default(), what(after).unwrap_or_default(), seconds)
        };
        let moved = after.rdma.iter().filter_map(|(name, value)| {
            let rate = rate(*before.rdma.get(name)?, *value, seconds);
            (rate > 0.0).then(|| (name.clone(), rate))
        });
        Self {
            interface: after.interface.clone(),
            carrier: after.carrier,
            speed_mbit: after.speed_mbit,
            received_per_second: bytes(|counters| counters.received),
            sent_per_second: bytes(|counters| counters.sent),
            errors: after.errors,
            rdma_per_second: moved.collect(),
        }
    }
}

impl Vllm {
    pub fn between(before: &Figures, after: &Figures, seconds: f64) -> Self {
        let rate =
            |before: f64, after: f64| if seconds > 0.0 { (after - before).max(0.0) / seconds } else { 0.0 };
        Self {
            generated_tokens_per_second: rate(before.generated_tokens, after.generated_tokens),
            prompt_tokens_per_second: rate(before.prompt_tokens, after.prompt_tokens),
            running: after.running,
            waiting: after.waiting,
            cache_percent: after.cache_percent,
        }
    }
}

/// One row per group and operation, by the first rank of each group.
pub fn collectives(before: &[RankState], after: &State, seconds: f64) -> Vec<Collective> {
    let list = |rank: &RankState| rank.statistics["operations"].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut rows = Vec::new();
    for rank in after.ranks.iter().filter(|rank| rank.rank == 0 && rank.alive) {
        let earlier = before.iter().find(|old| old.file == rank.file && old.node == rank.node).map(list);
        for operation in list(rank) {
            let name = operation["operation"].as_str().unwrap_or_default();
            let old = earlier.iter().flatten().find(|old| old["operation"] == name);
            // What began after the first reading has no rate yet.
            let per_second =
                |key: &str| old.map_or(0.0, |old| rate(number(&old[key]), number(&operation[key]), seconds));
            rows.push(Collective {
                group: rank.group.clone(),
                operation: name.to_owned(),
                transport: rank.transports.join("+"),
                per_second: per_second("count"),
                bytes_per_second: per_second("bytes"),
                count: number(&operation["count"]),
                p50_us: operation["p50_us"].as_f64().unwrap_or_default(),
                p99_us: operation["p99_us"].as_f64().unwrap_or_default(),
            });
        }
    }
    rows
}

/// All-reduces of all first ranks, in buckets of a power of two.
pub fn histogram(state: &State) -> Vec<(f64, u64)> {
    let mut buckets: BTreeMap<i32, u64> = BTreeMap::new();
    for rank in state.ranks.iter().filter(|rank| rank.rank == 0) {
        let operations = rank.statistics["operations"].as_array().cloned().unwrap_or_default();
        let all_reduce = operations.iter().filter(|operation| operation["operation"] == "all_reduce");
        for pair in
            all_reduce.flat_map(|operation| operation["histogram"].as_array().cloned().unwrap_or_default())
        {
            if let (Some(upper), Some(count)) =
                (pair[0].as_f64().filter(|upper| *upper > 0.0), pair[1].as_u64())
            {
                *buckets.entry(upper.log2().ceil() as i32).or_default() += count;
            }
        }
    }
    buckets.into_iter().map(|(power, count)| (f64::from(power).exp2(), count)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counters(received: u64, rdma: u64) -> Counters {
        Counters {
            interface: "rdma0".to_owned(),
            carrier: true,
            speed_mbit: Some(100_000),
            received: Some(received),
            sent: Some(0),
            errors: 3,
            rdma: BTreeMap::from([
                ("irdma0/port_xmit_data".to_owned(), rdma),
                ("irdma0/still".to_owned(), 7),
            ]),
        }
    }

    fn sample(at: f64, cpu: (u64, u64), link: Counters) -> Sample {
        Sample {
            at,
            cpu_total: cpu.0,
            cpu_idle: cpu.1,
            memory_total: 100,
            memory_available: 40,
            gpus: Vec::new(),
            celsius: None,
            links: vec![link],
        }
    }

    #[test]
    fn rates_are_differences_over_the_nodes_own_time() {
        let before = sample(10.0, (1000, 900), counters(500, 10));
        let after = sample(12.0, (1200, 950), counters(2500, 30));
        let now = Now::between(&before, &after);
        assert!((now.cpu_percent - 75.0).abs() < 1e-9);
        assert_eq!((now.memory_used, now.links[0].errors), (60, 3));
        assert!((now.links[0].received_per_second - 1000.0).abs() < 1e-9);
        assert_eq!(
            now.links[0].rdma_per_second,
            BTreeMap::from([("irdma0/port_xmit_data".to_owned(), 10.0)])
        );
        // A machine that restarted in between has no negative rates.
        assert!(Now::between(&after, &before).links[0].received_per_second.abs() < 1e-9);
    }

    fn state(count: u64) -> State {
        let statistics = json!({"name": "tp:0", "rank": 0, "world": 2,
            "operations": [{"operation": "all_reduce", "count": count, "bytes": count * 512, "p50_us": 9.0, "p99_us": 20.0,
                "histogram": [[3.0, 1], [3.9, 2], [5.0, 4]]}],
            "links": [{"transport": "tcp"}]});
        let rank = RankState::new("a".to_owned(), "f".to_owned(), 1, &statistics);
        State { ranks: vec![rank], ..State::default() }
    }

    #[test]
    fn collectives_are_counted_per_group_and_collected_by_latency() {
        let rows = collectives(&state(100).ranks, &state(300), 2.0);
        assert_eq!((rows.len(), rows[0].operation.as_str(), rows[0].count), (1, "all_reduce", 300));
        assert!((rows[0].per_second - 100.0).abs() < 1e-9);
        assert!((rows[0].bytes_per_second - 51_200.0).abs() < 1e-9);
        assert_eq!(histogram(&state(1)), [(4.0, 3), (8.0, 4)]);
    }
}
