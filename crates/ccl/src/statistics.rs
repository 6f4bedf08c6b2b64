//! What a communicator has done: operations, bytes, latencies. Counted with relaxed atomics, so that a thread of its
//! own can write them out while operations run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use halo_fabric::{Config, LinkBytes, LinkInfo, Mesh, RailBytes};
use serde::Serialize;

use crate::error::Error;
use crate::operation::Kind;
use crate::ticks::{Clock, Ticks};

/// How often the statistics file is renewed while operations run.
const INTERVAL: Duration = Duration::from_secs(1);

/// Latencies in buckets of a sixteenth of a power of two: 4 % wide at most, over all that a u64 of ticks holds.
const BUCKETS: usize = 16 * 64;

#[derive(Debug)]
struct Counter {
    count: AtomicU64,
    bytes: AtomicU64,
    longest: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

impl Counter {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            count: zero(),
            bytes: zero(),
            longest: zero(),
            buckets: (0..BUCKETS).map(|_| zero()).collect(),
        }
    }

    /// Only the communicator records, one operation after the other, so plain stores lose nothing and lock no bus.
    fn record(&self, bytes: usize, ticks: Ticks) {
        let add = |counter: &AtomicU64, more: u64| {
            counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        };
        add(&self.count, 1);
        add(&self.bytes, bytes as u64);
        add(&self.buckets[bucket(ticks)], 1);
        if ticks > self.longest.load(Ordering::Relaxed) {
            self.longest.store(ticks, Ordering::Relaxed);
        }
    }

    /// Every bucket that holds something: its upper bound in microseconds (of which a tick is so many), and how many.
    fn histogram(&self, microseconds: f64) -> Vec<(f64, u64)> {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).enumerate();
        let held = counts.filter(|(_, count)| *count > 0);
        held.map(|(at, count)| (upper_bound(at) as f64 * microseconds, count)).collect()
    }

    /// The latency below which `fraction` of the operations stayed, in ticks.
    fn quantile(&self, fraction: f64) -> f64 {
        let wanted = (self.count.load(Ordering::Relaxed) as f64 * fraction).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= wanted {
                return upper_bound(index) as f64;
            }
        }
        0.0
    }
}

/// Values below 16 have buckets of their own; above, four bits after the leading one choose.
fn bucket(value: u64) -> usize {
    if value < 16 {
        return value as usize;
    }
    let power = value.ilog2();
    (power as usize - 3) * 16 + (value >> (power - 4) & 15) as usize
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 16 {
        return bucket as u64;
    }
    let power = bucket / 16 + 3;
    let steps = (bucket % 16 + 16) as u64;
    let end = u128::from(steps + 1) << (power - 4);
    (end - 1).min(u128::from(u64::MAX)) as u64
}

/// The counters of one communicator.
#[derive(Debug)]
pub(crate) struct Counters {
    name: String,
    rank: usize,
    world: usize,
    /// What carries this communicator's payloads between all ranks: see [`Mesh::carrier`].
    transport: &'static str,
    operations: Vec<Counter>,
    links: Vec<(LinkInfo, Arc<LinkBytes>)>,
    clock: Clock,
    failure: OnceLock<String>,
}

impl Counters {
    pub(crate) fn new(config: &Config, mesh: &Mesh) -> Self {
        let links: Vec<_> = mesh.links().map(|(info, bytes)| (info.clone(), Arc::clone(bytes))).collect();
        let operations = Kind::ALL.iter().map(|_| Counter::new()).collect();
        Self {
            name: config.name.clone(),
            rank: config.rank,
            world: config.world,
            transport: mesh.carrier(),
            operations,
            links,
            clock: Clock::new(),
            failure: OnceLock::new(),
        }
    }

    /// When an operation begins.
    #[inline]
    pub(crate) fn start(&self) -> Ticks {
        self.clock.now()
    }

    /// One operation that began at `start` and contributed `bytes` of this rank.
    #[inline]
    pub(crate) fn record(&self, kind: Kind, bytes: usize, start: Ticks) {
        self.operations[kind as usize - 1].record(bytes, self.clock.now().saturating_sub(start));
    }

    /// What poisoned the communicator, with its code.
    pub(crate) fn fail(&self, failure: String) {
        // The first failure is the reason; later ones follow from it.
        let _ = self.failure.set(failure);
    }

    /// What a reader of the file can see change.
    fn state(&self) -> (u64, bool) {
        let operations = self.operations.iter().map(|counter| counter.count.load(Ordering::Relaxed));
        (operations.sum(), self.failure.get().is_some())
    }

    pub(crate) fn snapshot(&self) -> Statistics {
        let microseconds = self.clock.nanoseconds_per_tick() / 1e3;
        let operation = |(kind, counter): (&Kind, &Counter)| OperationStatistics {
            operation: kind.name(),
            transport: self.transport,
            count: counter.count.load(Ordering::Relaxed),
            bytes: counter.bytes.load(Ordering::Relaxed),
            p50_us: counter.quantile(0.5) * microseconds,
            p99_us: counter.quantile(0.99) * microseconds,
            max_us: counter.longest.load(Ordering::Relaxed) as f64 * microseconds,
            histogram: counter.histogram(microseconds),
        };
        let link = |(info, bytes): &(LinkInfo, Arc<LinkBytes>)| LinkStatistics {
            peer: info.peer,
            host: info.host.clone(),
            transport: info.transport.name(),
            reason: info.reason.clone(),
            bytes_sent: bytes.sent.load(Ordering::Relaxed),
            bytes_received: bytes.received.load(Ordering::Relaxed),
            bytes_sent_in_place: bytes.sent_in_place.load(Ordering::Relaxed),
            bytes_received_in_place: bytes.received_in_place.load(Ordering::Relaxed),
            rails: bytes.rails.iter().map(|rail| rail_statistics(rail)).collect(),
        };
        Statistics {
            name: self.name.clone(),
            rank: self.rank,
            world: self.world,
            pid: std::process::id(),
            operations: Kind::ALL
                .iter()
                .zip(&self.operations)
                .map(operation)
                .filter(|operation| operation.count > 0)
                .collect(),
            links: self.links.iter().map(link).collect(),
            failure: self.failure.get().cloned(),
        }
    }
}

/// What a communicator has done so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// The communicator's name.
    pub name: String,
    /// This rank.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// This process.
    pub pid: u32,
    /// Operations that were used at least once.
    pub operations: Vec<OperationStatistics>,
    /// One entry per peer.
    pub links: Vec<LinkStatistics>,
    /// The error that poisoned the communicator, from its code on. A process that was killed leaves none.
    pub failure: Option<String>,
}

/// One kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationStatistics {
    /// Such as `all_reduce`.
    pub operation: &'static str,
    /// `shm`, `rdma`, `tcp`, `mixed`, or `local` for a single rank.
    pub transport: &'static str,
    /// How often.
    pub count: u64,
    /// Bytes that this rank contributed.
    pub bytes: u64,
    /// Median latency in microseconds, to 7 %.
    pub p50_us: f64,
    /// 99th percentile in microseconds, to 7 %.
    pub p99_us: f64,
    /// The longest, in microseconds.
    pub max_us: f64,
    /// Latencies: the upper bound of a bucket in microseconds and how many are in it, empty buckets left out.
    pub histogram: Vec<(f64, u64)>,
}

/// The link to one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkStatistics {
    /// The peer's rank.
    pub peer: usize,
    /// Its host.
    pub host: String,
    /// What carries payloads.
    pub transport: &'static str,
    /// Why this transport.
    pub reason: String,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Of those sent, the ones read where they lay, in registered memory.
    pub bytes_sent_in_place: u64,
    /// Of those received, the ones that the peer wrote straight to registered memory.
    pub bytes_received_in_place: u64,
    /// Each rail, where there are several.
    pub rails: Vec<RailStatistics>,
}

/// One of several rails of a link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RailStatistics {
    /// This rank's port, such as `irdma0:1`.
    pub name: String,
    /// Payload bytes sent, those written again because another rail was lost among them.
    pub bytes_sent: u64,
    /// Why it is left out, if it was lost.
    pub lost: Option<String>,
}

fn rail_statistics(rail: &RailBytes) -> RailStatistics {
    RailStatistics {
        name: rail.name.clone(),
        bytes_sent: rail.sent.load(Ordering::Relaxed),
        lost: rail.lost.get().cloned(),
    }
}

/// Keeps a JSON file of the statistics up to date, from a thread of its own.
#[derive(Debug)]
pub(crate) struct StatisticsFile {
    path: PathBuf,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StatisticsFile {
    /// Starts the thread, after a first file that shows whether it can be written at all.
    pub(crate) fn start(config: &Config, counters: &Arc<Counters>) -> Result<Option<Self>, Error> {
        let Some(template) = &config.stats_file else { return Ok(None) };
        // A name such as `tp:0/1` must stay one file name.
        let name = config.name.replace(['/', '\0'], "_");
        let path: PathBuf = template
            .replace("{name}", &name)
            .replace("{rank}", &config.rank.to_string())
            .replace("{pid}", &std::process::id().to_string())
            .into();
        write(&path, &counters.snapshot())?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("halo-statistics".to_owned()).spawn({
            let (path, counters, stop) = (path.clone(), Arc::clone(counters), Arc::clone(&stop));
            move || {
                let mut written = (0, false);
                while !stop.load(Ordering::Acquire) {
                    std::thread::park_timeout(INTERVAL);
                    let state = counters.state();
                    if state != written {
                        written = state;
                        if let Err(error) = write(&path, &counters.snapshot()) {
                            tracing::warn!(%error, "statistics were not written");
                        }
                    }
                }
            }
        });
        let thread = thread.map_err(|error| unwritable(&path, &error))?;
        Ok(Some(Self { path, counters: Arc::clone(counters), stop, thread: Some(thread) }))
    }

    /// Has the state written at once: the process may not live for another interval.
    pub(crate) fn renew(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Stops the thread and writes the last state.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        let _ = thread.join();
        write(&self.path, &self.counters.snapshot())
    }
}

impl Drop for StatisticsFile {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Replaces the file at once, so that a reader never sees half of it.
fn write(path: &Path, statistics: &Statistics) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(statistics).expect("statistics are plain data");
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::StatisticsFile { path: path.display().to_string(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_within_a_sixteenth(value: u64) {
            let index = bucket(value);
            prop_assert!(index < BUCKETS);
            prop_assert!(upper_bound(index) >= value);
            prop_assert!(index == 0 || upper_bound(index - 1) < value);
            prop_assert!(u128::from(upper_bound(index)) <= u128::from(value) * 17 / 16 + 1);
        }
    }

    #[test]
    fn quantiles_come_from_what_was_recorded() {
        let counter = Counter::new();
        for microseconds in 1..=100 {
            counter.record(8, microseconds);
        }
        assert!((50.0..54.0).contains(&counter.quantile(0.5)), "{}", counter.quantile(0.5));
        let histogram = counter.histogram(1.0);
        assert_eq!(histogram.iter().map(|(_, count)| count).sum::<u64>(), 100);
        assert!(histogram.is_sorted_by(|a, b| a.0 < b.0), "{histogram:?}");
        assert!((99.0..106.0).contains(&counter.quantile(0.99)), "{}", counter.quantile(0.99));
    }
}
