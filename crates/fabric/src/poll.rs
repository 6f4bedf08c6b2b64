//! Waiting for sockets until a deadline. A signal that this process handles ends poll(2) early and makes nothing ready.

use std::time::Instant;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

use crate::error::FabricError;

/// Waits until one of the sockets has something; `false` once the deadline has passed, whatever they have.
pub(crate) fn ready_before(deadline: Instant, watched: &mut [PollFd<'_>]) -> Result<bool, FabricError> {
    let look = |left: &Timespec| rustix::event::poll(watched, Some(left));
    until(deadline, look).map_err(|error| FabricError::system("poll", error))
}

fn until(deadline: Instant, mut look: impl FnMut(&Timespec) -> Result<usize, Errno>) -> Result<bool, Errno> {
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let left = Timespec::try_from(left).expect("a deadline fits a timespec");
        match look(&left) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_signal_makes_nothing_ready_and_gives_no_more_time() {
        let deadline = Instant::now() + Duration::from_secs(60);
        for found in [Ok(0), Ok(1), Err(Errno::NOMEM)] {
            let mut given = Vec::new();
            let looked = until(deadline, |left| {
                given.push((left.tv_sec, left.tv_nsec));
                if given.len() < 3 { Err(Errno::INTR) } else { found }
            });
            assert_eq!(looked, found.map(|count| count > 0));
            assert!(given.len() == 3 && given.is_sorted_by(|before, after| before >= after), "{given:?}");
        }
    }

    #[test]
    fn neither_signals_nor_what_is_always_ready_outlast_the_deadline() {
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(until(soon, |_| Err(Errno::INTR)), Ok(false));
        assert_eq!(until(soon, |_| Ok(1)), Ok(false));
    }
}
