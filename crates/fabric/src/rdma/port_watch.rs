//! Ports that their devices say are down: heard by the control thread, which sleeps, and read by the links, which may not
//! make a system call to ask.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halo_verbs::Context;

/// Which of this rank's ports are down.
#[derive(Debug, Clone)]
pub(crate) struct PortsDown {
    /// The first says that any of the others is set.
    flags: Arc<[AtomicBool]>,
}

impl PortsDown {
    pub(crate) fn new(ports: usize) -> Self {
        Self { flags: (0..=ports).map(|_| AtomicBool::new(false)).collect() }
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.flags[0].load(Ordering::Relaxed)
    }

    pub(crate) fn is(&self, port: usize) -> bool {
        self.flags[port + 1].load(Ordering::Relaxed)
    }

    fn set(&self, port: usize) {
        self.flags[port + 1].store(true, Ordering::Relaxed);
        self.flags[0].store(true, Ordering::Relaxed);
    }
}

/// The devices to listen to.
#[derive(Debug)]
pub(crate) struct PortWatch {
    /// Each port's device, and its number there.
    ports: Vec<(Arc<Context>, u8)>,
    down: PortsDown,
}

impl PortWatch {
    pub(crate) fn new(ports: Vec<(Arc<Context>, u8)>, down: PortsDown) -> Self {
        Self { ports, down }
    }

    /// What to sleep on.
    pub(crate) fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports.iter().map(|(device, _)| device.event_file())
    }

    /// Takes in what the devices have said; whether a port went down.
    pub(crate) fn look(&mut self) -> bool {
        let mut fell = false;
        for (device, _) in &self.ports {
            loop {
                match device.next_event() {
                    Ok(Some(event)) => {
                        tracing::debug!(device = device.name(), %event, "the device says");
                        // Two ports may be of one device, which says it once.
                        let of_it = self.ports.iter().enumerate();
                        let of_it = of_it.filter(|(_, (other, _))| Arc::ptr_eq(other, device));
                        of_it.filter(|(_, (_, number))| event.ends_port(*number)).for_each(|(port, _)| {
                            self.down.set(port);
                            fell = true;
                        });
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(device = device.name(), %error, "the device's events cannot be read");
                        break;
                    }
                }
            }
        }
        fell
    }
}
