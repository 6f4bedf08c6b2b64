//! Ending a wait from Python: a signal, such as Ctrl-C's, or another thread that aborts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use halo_ccl::Interrupt;
use pyo3::prelude::*;

/// How often the interpreter is asked for signals, which takes its lock.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// What can end a communicator's waits.
#[derive(Default)]
pub(crate) struct Stop {
    aborted: AtomicBool,
    last_asked: Mutex<Option<Instant>>,
    /// What a signal's handler raised.
    raised: Mutex<Option<PyErr>>,
}

impl Stop {
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }

    /// For a communicator to ask.
    pub(crate) fn interrupt(self: &Arc<Self>) -> Interrupt {
        let stop = Arc::clone(self);
        Interrupt::when(move || stop.wanted())
    }

    /// Whether a wait should end. Asked often, also by threads that get no signals.
    fn wanted(&self) -> bool {
        if self.aborted.load(Ordering::Relaxed) || self.raised().is_some() {
            return true;
        }
        let mut last_asked = self.last_asked.lock().unwrap_or_else(PoisonError::into_inner);
        if last_asked.is_some_and(|asked| asked.elapsed() < BETWEEN_SIGNALS) {
            return false;
        }
        *last_asked = Some(Instant::now());
        drop(last_asked);
        self.signalled()
    }

    /// Runs the handlers of signals that have come; whether one raised an exception.
    fn signalled(&self) -> bool {
        // An interpreter that is going away has no more handlers.
        #[allow(clippy::redundant_closure_for_method_calls, reason = "the method alone does not compile")]
        match Python::try_attach(|py| py.check_signals()) {
            Some(Err(raised)) => {
                *self.raised() = Some(raised);
                true
            }
            _ => false,
        }
    }

    /// The exception to raise instead of `error`, if a signal ended the wait.
    pub(crate) fn instead_of(&self, error: PyErr) -> PyErr {
        self.raised().take().unwrap_or(error)
    }

    fn raised(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
