//! Waiting: spin while it is likely to be short, then give the core away, then sleep.

use std::time::{Duration, Instant};

/// Turns of the loop before the first look at the clock; a prompt peer answers within these.
const SPINS_WITHOUT_CLOCK: u32 = 256;
/// How long to spin before giving the core away between turns.
const SPIN: Duration = Duration::from_micros(50);
/// How long to give the core away before sleeping between turns.
const YIELD: Duration = Duration::from_millis(2);
/// One sleep: long enough to cost nothing, short enough to be unnoticed after such a wait.
const NAP: Duration = Duration::from_micros(100);

/// One wait, from its first idle turn to its end.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    turns: u32,
    since: Option<Instant>,
}

impl Wait {
    /// Something moved: the next idle turn begins a new wait.
    #[inline]
    pub(crate) fn moved(&mut self) {
        *self = Self::default();
    }

    /// One idle turn. Returns how long this wait has lasted, once that is worth knowing.
    #[inline]
    pub(crate) fn idle(&mut self) -> Option<Duration> {
        self.turns = self.turns.wrapping_add(1);
        if self.turns < SPINS_WITHOUT_CLOCK {
            std::hint::spin_loop();
            return None;
        }
        Some(self.idle_by_the_clock())
    }

    #[cold]
    fn idle_by_the_clock(&mut self) -> Duration {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited < SPIN {
            std::hint::spin_loop();
        } else if waited < YIELD {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
        waited
    }
}
