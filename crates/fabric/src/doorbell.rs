//! Sleeping until a peer does something. A rank that has waited long says so in the bell line of its arena; a peer on the
//! same host that finds it asleep after a write wakes it. Between hosts over tcp the kernel wakes whoever polls, and over
//! rdma the control threads ring for the peer (`control/bell.rs`).
//!
//! The writer looks at the bell right after its flag, with no fence between: that would cost every message of the busy. So
//! it may find the bell silent while its flag is still on its way out of its processor. The sleeper therefore gives such
//! a flag time to arrive between saying that it sleeps and its last look. If even that is not enough, it wakes by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::thread::futex;

use crate::arena::Arena;

/// Awake, and asleep.
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// Some microseconds: a processor's stores leave it within far less, or when it is interrupted.
const TURNS_OF_A_LATE_FLAG: u32 = 200;

/// Wakes the owner of `arena` if it sleeps. One load of a line that is seldom written, when it does not.
#[inline]
pub(crate) fn ring(arena: &Arena, bell: usize) {
    if arena.half_word(bell).load(Ordering::Relaxed) != AWAKE {
        wake(arena, bell);
    }
}

#[cold]
fn wake(arena: &Arena, bell: usize) {
    let bell = arena.half_word(bell);
    bell.store(AWAKE, Ordering::SeqCst);
    // It can only fail for an address that is none.
    let _ = futex::wake(bell, futex::Flags::empty(), u32::MAX);
}

/// Sleeps until a peer rings or the time is over; not at all if `stirred` finds something once the bell is set. Whether it
/// was rung.
pub(crate) fn sleep(arena: &Arena, bell: usize, at_most: Duration, stirred: impl FnOnce() -> bool) -> bool {
    let bell = arena.half_word(bell);
    bell.store(ASLEEP, Ordering::SeqCst);
    for _ in 0..TURNS_OF_A_LATE_FLAG {
        std::hint::spin_loop();
    }
    if !stirred() {
        let timeout = timespec(at_most);
        // Woken, interrupted or timed out: the caller looks again in each case.
        let _ = futex::wait(bell, futex::Flags::empty(), ASLEEP, Some(&timeout));
    }
    bell.swap(AWAKE, Ordering::SeqCst) == AWAKE
}

/// Sleeps until one of the sockets has something, or the time is over.
pub(crate) fn sleep_on_sockets(sockets: &mut [PollFd<'_>], at_most: Duration) {
    let _ = poll(sockets, Some(&timespec(at_most)));
}

/// What a socket is polled for.
pub(crate) fn interest(awaits_bytes: bool, has_backlog: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, awaits_bytes);
    flags.set(PollFlags::OUT, has_backlog);
    flags
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_sleeper_is_woken_through_another_mapping() {
        let arena = Arena::allocate(4096).unwrap();
        let twin = Arena::map(arena.file().try_clone_to_owned().unwrap(), 4096).unwrap();
        let start = Instant::now();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| assert!(sleep(&arena, 64, LONG, || false)));
            while !sleeper.is_finished() {
                ring(&twin, 64);
                std::thread::yield_now();
            }
        });
        assert!(start.elapsed() < LONG, "it was woken, and did not wake by itself");
    }

    #[test]
    fn nobody_sleeps_through_what_came_before() {
        let arena = Arena::allocate(4096).unwrap();
        let start = Instant::now();
        assert!(!sleep(&arena, 0, LONG, || true));
        assert!(!sleep(&arena, 0, Duration::from_millis(1), || false));
        assert!(start.elapsed() < LONG);
        assert_eq!(arena.half_word(0).load(Ordering::Relaxed), AWAKE);
    }
}
