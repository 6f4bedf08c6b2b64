//! What happens after a failure, with `--restart on-failure`: the launch begins anew, but not for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::ClusterError;

/// So many failures within so long mean that another try will not help.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(1800);
/// Until the next try: a machine that went down needs a moment to come back.
const PAUSE: Duration = Duration::from_secs(5);

/// When a launch is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Restart {
    /// A failure ends it.
    #[default]
    Never,
    /// A served model that fails is launched again.
    OnFailure,
}

/// The failures so far.
#[derive(Debug, Default)]
pub struct Failures {
    times: Vec<Instant>,
}

impl Failures {
    /// Counts one more; an error when there were too many of late.
    pub fn add(&mut self, now: Instant) -> Result<(), ClusterError> {
        self.times.retain(|time| now.duration_since(*time) < WITHIN);
        self.times.push(now);
        if self.times.len() < MOST {
            return Ok(());
        }
        Err(ClusterError::GaveUp { failures: self.times.len(), minutes: WITHIN.as_secs() / 60 })
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }
}

/// Waits before the next try; false if a signal came.
pub fn pause(interrupted: &AtomicBool) -> bool {
    let deadline = Instant::now() + PAUSE;
    while Instant::now() < deadline {
        if interrupted.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (start, mut failures) = (Instant::now(), Failures::default());
        for number in 0..20 {
            failures.add(start + WITHIN * number).unwrap();
        }
        let late = start + WITHIN * 20;
        for _ in 0..MOST - 1 {
            failures.add(late).unwrap();
        }
        let error = failures.add(late).unwrap_err();
        assert_eq!(error.to_string(), "the launch failed 5 times within 30 minutes");
    }
}
