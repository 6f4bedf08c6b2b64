//! A clock that costs less than the operations it times: the processor's time-stamp counter where it runs at a constant
//! rate, the system's clock elsewhere. Ticks are counted as they are and turned into time only when somebody reads.

use std::time::Instant;

/// A reading of the clock; only differences mean something.
pub(crate) type Ticks = u64;

/// The clock, and when it was first read, by which its rate is known later.
#[derive(Debug)]
pub(crate) struct Clock {
    counter: bool,
    ticks: Ticks,
    time: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let (counter, time) = (has_constant_counter(), Instant::now());
        let mut clock = Self { counter, ticks: 0, time };
        clock.ticks = clock.now();
        clock
    }

    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        if self.counter { counter() } else { self.time.elapsed().as_nanos() as Ticks }
    }

    /// Nanoseconds of a tick, measured over the life of this clock.
    pub(crate) fn nanoseconds_per_tick(&self) -> f64 {
        if !self.counter {
            return 1.0;
        }
        let ticks = self.now().wrapping_sub(self.ticks).max(1);
        self.time.elapsed().as_nanos() as f64 / ticks as f64
    }
}

/// Whether the counter runs at one rate in all power states ("invariant TSC", AMD64 manual volume 3, CPUID
/// Fn8000_0007).
#[cfg(target_arch = "x86_64")]
fn has_constant_counter() -> bool {
    use std::arch::x86_64::__cpuid;
    const LAST_EXTENDED: u32 = 0x8000_0000;
    const POWER: u32 = 0x8000_0007;
    __cpuid(LAST_EXTENDED).eax >= POWER && __cpuid(POWER).edx & 1 << 8 != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn has_constant_counter() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> Ticks {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Ticks {
    unreachable!("only used where the counter is constant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_go_forward_at_the_rate_of_a_processor() {
        let clock = Clock::new();
        let readings = (0..1000).map(|_| clock.now()).collect::<Vec<_>>();
        assert!(readings.is_sorted());
        // 100 MHz to 20 GHz.
        let rate = clock.nanoseconds_per_tick();
        assert!((0.05..=10.0).contains(&rate), "{rate} ns");
    }
}
