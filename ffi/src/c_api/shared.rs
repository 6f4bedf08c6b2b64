//! Who may use a communicator now: the calls of its own handle, or a queue.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use halo_ccl::{Communicator as Open, FabricError};

use crate::c_api::allocation::Allocations;
use crate::c_api::error::Error;
use crate::c_api::registration::Registrations;

/// What the peers are told, with the code that this program is answered with.
const REASON: &str = "HALO-E0511: halo panicked";

enum State {
    Open(Box<Open>),
    /// A queue has it.
    Lent,
    Closed,
    /// A panic has ended it.
    Broken,
}

/// What a communicator's handle and its queue hold together; it is gone when both are. The communicator goes before the
/// memory that its operations may still use.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) registrations: Registrations,
    pub(crate) allocations: Allocations,
}

impl Shared {
    pub(crate) fn new(open: Open) -> Self {
        let state = Mutex::new(State::Open(Box::new(open)));
        Self { state, registrations: Registrations::default(), allocations: Allocations::default() }
    }

    /// Runs one operation of an open communicator.
    pub(crate) fn run<T>(
        &self,
        function: &'static str,
        work: impl FnOnce(&mut Open) -> Result<T, halo_ccl::Error>,
    ) -> Result<T, Error> {
        let mut state = self.lock(function)?;
        let open = match &mut *state {
            State::Open(open) => open,
            State::Lent => return Err(Error::QueueOpen { function }),
            State::Closed => return Err(FabricError::Closed.into()),
            State::Broken => return Err(broken(function)),
        };
        match catch_unwind(AssertUnwindSafe(|| work(open))) {
            Ok(done) => Ok(done?),
            Err(panic) => {
                let state = std::mem::replace(&mut *state, State::Broken);
                if let State::Open(open) = state {
                    abandon(open);
                }
                resume_unwind(panic)
            }
        }
    }

    /// Takes the communicator, for good: later calls find it closed. `None` if they do already.
    pub(crate) fn close(&self, function: &'static str) -> Result<Option<Box<Open>>, Error> {
        self.take(function, State::Closed)
    }

    /// Takes the communicator until [`Shared::give_back`].
    pub(crate) fn lend(&self, function: &'static str) -> Result<Box<Open>, Error> {
        self.take(function, State::Lent)?.ok_or_else(|| FabricError::Closed.into())
    }

    /// Has the handle's own calls use the communicator again.
    pub(crate) fn give_back(&self, open: Box<Open>) {
        // A poisoned lock has been told to its caller; the communicator is closed with the state then.
        if let Ok(mut state) = self.state.lock() {
            *state = State::Open(open);
        }
    }

    /// Has every later call answer that one panicked.
    pub(crate) fn break_off(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Broken;
    }

    fn take(&self, function: &'static str, left: State) -> Result<Option<Box<Open>>, Error> {
        let mut state = self.lock(function)?;
        match std::mem::replace(&mut *state, State::Closed) {
            State::Open(open) => {
                *state = left;
                Ok(Some(open))
            }
            State::Lent => {
                *state = State::Lent;
                Err(Error::QueueOpen { function })
            }
            State::Closed => Ok(None),
            State::Broken => {
                *state = State::Broken;
                Err(broken(function))
            }
        }
    }

    /// Another thread inside is the program's error and never waited for: which operation came first would be chance.
    fn lock(&self, function: &'static str) -> Result<MutexGuard<'_, State>, Error> {
        self.state.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Busy { function },
            TryLockError::Poisoned(_) => broken(function),
        })
    }
}

/// Destroys a communicator that has panicked: the peers are told, and no memory that it was lent is used any more. Should
/// that panic, too, the first panic is what counts.
pub(crate) fn abandon(open: Box<Open>) {
    let _ = catch_unwind(AssertUnwindSafe(|| open.abandon(REASON)));
}

fn broken(function: &'static str) -> Error {
    Error::Panic { function, message: "an earlier call with this communicator did".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c_api::status::{HALO_ERROR_BUSY, HALO_ERROR_PANIC, boundary};

    /// A communicator of one rank needs nobody.
    fn alone() -> Shared {
        Shared::new(Open::connect(&halo_ccl::Config::new(0, 1)).unwrap())
    }

    #[test]
    fn a_second_thread_is_told_so_at_once() {
        let shared = alone();
        let inside = shared.state.lock().unwrap();
        assert_eq!(boundary("f", || shared.run("f", Open::barrier)), HALO_ERROR_BUSY);
        drop(inside);
        shared.run("f", Open::barrier).unwrap();
    }

    #[test]
    fn a_communicator_that_panicked_is_never_used_again() {
        let shared = alone();
        let panics = || shared.run("f", |_| -> Result<(), _> { panic!("inside") });
        assert_eq!(boundary("f", panics), HALO_ERROR_PANIC);
        let again = shared.run("f", Open::barrier).unwrap_err().to_string();
        assert!(again.contains("an earlier call"), "{again}");
    }

    #[test]
    fn what_is_lent_comes_back_and_what_is_closed_does_not() {
        let shared = alone();
        let open = shared.lend("f").unwrap();
        assert!(matches!(shared.run("f", Open::barrier), Err(Error::QueueOpen { .. })));
        assert!(matches!(shared.close("f"), Err(Error::QueueOpen { .. })));
        shared.give_back(open);
        shared.close("f").unwrap().unwrap().close().unwrap();
        assert!(shared.close("f").unwrap().is_none());
        assert_eq!(shared.lend("f").unwrap_err().to_string(), "the communicator is closed");
    }
}
