//! Waiting: spin while it is likely to be short, then give the core away, then sleep.

use std::time::{Duration, Instant};

use halo_fabric::Config;

/// Turns of the loop before the first look at the clock; a prompt peer answers within these.
const SPINS_WITHOUT_CLOCK: u32 = 256;

/// The shortest sleep that is worth its wake-up.
const SHORTEST: Duration = Duration::from_micros(100);

/// The longest: what nobody rings for, such as an interrupt from another thread, is noticed this late.
const LONGEST: Duration = Duration::from_millis(100);

/// What an idle turn has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Look again; how long this wait has lasted is not worth knowing yet.
    Spun,
    /// Look again after this long.
    Waited(Duration),
    /// Sleep before looking again.
    Sleep {
        /// How long this wait has lasted.
        waited: Duration,
        at_most: Duration,
    },
}

/// One wait, from its first idle turn to its end.
#[derive(Debug)]
pub(crate) struct Wait {
    turns: u32,
    since: Option<Instant>,
    /// When the last sleep ended by the bell.
    rung: Option<Instant>,
    spin: Duration,
    sleep_after: Duration,
    deadline: Duration,
}

impl Wait {
    pub(crate) fn new(config: &Config) -> Self {
        let Config { spin, sleep_after, timeout: deadline, .. } = *config;
        Self { turns: 0, since: None, rung: None, spin, sleep_after, deadline }
    }

    /// One that has lasted since then, if it had begun.
    pub(crate) fn begun(config: &Config, since: Option<Instant>) -> Self {
        Self { since, ..Self::new(config) }
    }

    /// Something moved: the next idle turn begins a new wait.
    #[inline]
    pub(crate) fn moved(&mut self) {
        self.turns = 0;
        self.since = None;
        self.rung = None;
    }

    /// The bell ended a sleep: what it was rung for may still be under way, so this rank is awake for a while.
    pub(crate) fn rung(&mut self) {
        self.rung = Some(Instant::now());
    }

    /// One idle turn.
    #[inline]
    pub(crate) fn idle(&mut self) -> Idle {
        self.turns = self.turns.wrapping_add(1);
        if self.turns < SPINS_WITHOUT_CLOCK {
            std::hint::spin_loop();
            return Idle::Spun;
        }
        self.idle_by_the_clock()
    }

    #[cold]
    fn idle_by_the_clock(&mut self) -> Idle {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let quiet = self.rung.map_or(waited, |rung| rung.elapsed());
        if quiet >= self.sleep_after {
            // What comes at the very moment of falling asleep may ring too early, and for short sleeps nobody rings at all. A
            // rank that sleeps an eighth of what it has waited loses no more than that. It does not sleep past its deadline.
            let longest = LONGEST.min(self.deadline.saturating_sub(waited)).max(SHORTEST);
            return Idle::Sleep { waited, at_most: (quiet / 8).clamp(SHORTEST, longest) };
        }
        if quiet < self.spin {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        Idle::Waited(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_spins_then_sleeps_and_begins_anew_when_something_moved() {
        let config = Config { sleep_after: Duration::ZERO, ..Config::new(0, 2) };
        let mut wait = Wait::new(&config);
        let spins = |wait: &mut Wait| (0..10_000).take_while(|_| wait.idle() == Idle::Spun).count() as u32;
        assert_eq!(spins(&mut wait), SPINS_WITHOUT_CLOCK - 1);
        assert!(matches!(wait.idle(), Idle::Sleep { at_most: SHORTEST, .. }));
        wait.moved();
        assert_eq!(spins(&mut wait), SPINS_WITHOUT_CLOCK - 1);
        let mut patient = Wait::new(&Config { sleep_after: Duration::from_secs(3600), ..config });
        assert_eq!(spins(&mut patient), SPINS_WITHOUT_CLOCK - 1);
        assert!(matches!(patient.idle(), Idle::Waited(_)));
    }

    #[test]
    fn sleeps_grow_with_the_wait_and_are_short_again_after_the_bell() {
        let (sleep_after, timeout) = (Duration::ZERO, Duration::from_secs(7200));
        let mut wait = Wait::new(&Config { sleep_after, timeout, ..Config::new(0, 2) });
        wait.turns = SPINS_WITHOUT_CLOCK;
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        wait.since = ago(3600);
        assert!(matches!(wait.idle(), Idle::Sleep { waited, at_most: LONGEST } if waited.as_secs() >= 3600));
        wait.rung();
        // The wait is as old as before: its deadline is not put off.
        assert!(matches!(wait.idle(), Idle::Sleep { waited, at_most: SHORTEST } if waited.as_secs() >= 3600));
        wait.sleep_after = Duration::from_secs(60);
        assert!(matches!(wait.idle(), Idle::Waited(waited) if waited.as_secs() >= 3600));
        wait.rung = ago(61);
        assert!(matches!(wait.idle(), Idle::Sleep { at_most: LONGEST, .. }));
        wait.deadline = Duration::from_secs(3600) + LONGEST / 2;
        wait.since = ago(3600);
        assert!(
            matches!(wait.idle(), Idle::Sleep { at_most, .. } if at_most <= LONGEST / 2),
            "not past its deadline"
        );
    }
}
