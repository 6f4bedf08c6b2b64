//! Whether a port of one's own is down. With one port the control connection shows that, which goes over it; of several, one
//! that only receives could be down unnoticed for as long as the peer's NIC tries to reach it.

use std::time::{Duration, Instant};

use crate::plugin::comm::Failure;
use crate::plugin::device::RdmaPort;

/// How often the ports are looked at while a connection waits for something.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct PortWatch {
    /// A port may be down for so long: a link that blinks is no failure, as the NIC sends again.
    patience: Duration,
    looked: Instant,
    down: Option<Instant>,
}

impl PortWatch {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, looked: Instant::now(), down: None }
    }

    /// Looks for a port that is `down` if it is time to; an error when one has been for too long.
    pub(super) fn look(&mut self, down: impl FnOnce() -> Option<&'static RdmaPort>) -> Result<(), Failure> {
        let now = Instant::now();
        if now - self.looked < BETWEEN_LOOKS {
            return Ok(());
        }
        self.looked = now;
        let down = down();
        let too_long = self.is_too_long(down.is_some(), now);
        down.filter(|_| too_long).map_or(Ok(()), |port| Err(Failure::Device(port.state())))
    }

    /// Notes whether a port is down; true when one has been at every look for too long.
    fn is_too_long(&mut self, down: bool, now: Instant) -> bool {
        self.down = if down { Some(self.down.unwrap_or(now)) } else { None };
        self.down.is_some_and(|since| now - since >= self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_blinks_is_borne_and_one_that_stays_down_is_not() {
        let mut watch = PortWatch::new(Duration::from_secs(3));
        let start = Instant::now();
        let mut look = |down, seconds| watch.is_too_long(down, start + Duration::from_secs(seconds));
        assert!(!look(false, 0) && !look(true, 1) && !look(true, 3));
        assert!(!look(false, 4), "it was up again");
        assert!(!look(true, 5) && !look(true, 7) && look(true, 8));
    }
}
