//! What a driver is asked for, and what it answers.

use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

/// How often to measure one size: `BYTES:ITERATIONS` on a driver's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Payload bytes of one operation.
    pub bytes: usize,
    /// Timed operations.
    pub iterations: usize,
}

impl Work {
    /// As many iterations as a size deserves: many where one is short.
    pub fn new(bytes: usize) -> Self {
        let iterations = match bytes {
            0..=65_536 => 1000,
            65_537..=1_048_576 => 200,
            1_048_577..=8_388_608 => 40,
            _ => 10,
        };
        Self { bytes, iterations }
    }

    /// Operations before the timed ones; the same rule in every driver.
    pub fn warmup(self) -> usize {
        self.iterations / 10 + 2
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.bytes, self.iterations)
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not BYTES:ITERATIONS");
        let (bytes, iterations) = text.split_once(':').ok_or_else(wrong)?;
        let read = |number: &str| number.parse::<usize>().map_err(|_| wrong());
        let work = Self { bytes: read(bytes)?, iterations: read(iterations)? };
        if work.iterations == 0 { Err(wrong()) } else { Ok(work) }
    }
}

/// One size, measured: quantiles of the slowest rank's time per operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Payload bytes of one operation.
    pub bytes: usize,
    /// What was added: a peer without bf16 adds f32 over the same bytes.
    pub dtype: String,
    /// 10th percentile, in microseconds.
    pub p10_us: f64,
    /// Median, in microseconds.
    pub p50_us: f64,
    /// Heap allocations of all ranks' threads during the timed operations, where the driver counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<u64>,
    /// Of sends that were to go without a copy, the share that the kernel copied after all, where the driver asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<f64>,
}

impl Line {
    /// The quantiles of `samples`.
    pub fn of(bytes: usize, dtype: &str, samples: &[Duration]) -> Self {
        let mut microseconds: Vec<f64> = samples.iter().map(|sample| sample.as_secs_f64() * 1e6).collect();
        microseconds.sort_by(f64::total_cmp);
        let quantile = |tenths: usize| microseconds[microseconds.len() * tenths / 10];
        Self {
            bytes,
            dtype: dtype.to_owned(),
            p10_us: quantile(1),
            p50_us: quantile(5),
            allocations: None,
            copied: None,
        }
    }
}

/// Ties this thread to one of the processors that the program may use, so that two ranks never share one where there are
/// two.
pub fn pin(rank: usize) {
    // As they were before any thread was tied: those that it starts would have only its own.
    static PROCESSORS: LazyLock<Vec<usize>> = LazyLock::new(processors);
    // Where a container forbids it, the system places the ranks; the figures are then noisier, not wrong.
    if let Err(error) = tie(PROCESSORS[rank % PROCESSORS.len()]) {
        eprintln!("rank {rank} is not tied to a processor: {error}");
    }
}

/// The numbers of the processors that this thread may use; 0 where the system does not tell.
pub fn processors() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    let processors: Vec<usize> =
        (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
    if processors.is_empty() { vec![0] } else { processors }
}

/// Ties this thread to the processor of that number.
///
/// # Errors
/// This thread may not use it.
pub fn tie(processor: usize) -> std::io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(rustix::thread::sched_setaffinity(None, &only)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_tied_to_one_of_its_processors_wherever_the_one_that_started_it_is() {
        let all = processors();
        let tied =
            |rank| std::thread::scope(|scope| scope.spawn(|| (pin(rank), processors()).1).join().unwrap());
        assert_eq!(tied(0), [all[0]]);
        assert_eq!(processors(), all, "the others stay where they were");
        pin(0);
        assert_eq!(tied(all.len() + 1), [all[1 % all.len()]]);
        assert!(tie(CpuSet::MAX_CPU - 1).is_err(), "there is no such processor");
    }

    #[test]
    fn work_reads_as_it_is_written() {
        let work = Work { bytes: 8192, iterations: 1000 };
        assert_eq!(work.to_string().parse(), Ok(work));
        for wrong in ["8192", "8192:", "8192:0", ":5", "8K:5"] {
            assert!(wrong.parse::<Work>().unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_samples() {
        let samples: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();
        let line = Line::of(8, "bf16", &samples);
        assert!((line.p10_us - 11.0).abs() < 1e-9 && (line.p50_us - 51.0).abs() < 1e-9, "{line:?}");
        let one = Line::of(8, "bf16", &samples[..1]);
        assert!((one.p10_us - one.p50_us).abs() < 1e-9);
    }
}
