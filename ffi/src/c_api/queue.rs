//! Operations that begin now and end later, while the caller computes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use halo_ccl::{Communicator as Open, Queue as Jobs, Ticket};

use crate::c_api::buffer::result;
use crate::c_api::communicator::{Communicator, Place};
use crate::c_api::error::Error;
use crate::c_api::request::{Request, check};
use crate::c_api::shared::{Shared, abandon};
use crate::c_api::status::{Status, boundary};

/// Operations under way, done in the order in which they were started. They move on in every call with the queue, and
/// only there: no thread works behind the caller's back. While a queue is open, only it can use its communicator.
/// Destroyed by `halo_queue_free`, which completes what is left.
///
/// A queue is used by one thread at a time.
pub struct Queue {
    /// `Some` until it is freed, or a panic has ended it. It borrows `open`, and is gone before that.
    jobs: Option<Jobs<'static, 'static>>,
    open: *mut Open,
    place: Place,
    home: Arc<Shared>,
}

/// Opens a queue. Until it is freed, other calls with this communicator answer `HALO_ERROR_QUEUE_OPEN`.
///
/// `*queue` is set on success only, and destroyed by `halo_queue_free`.
///
/// # Safety
/// `communicator` is NULL or a communicator that was not freed; `queue` is NULL or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_queue_new(communicator: *mut Communicator, queue: *mut *mut Queue) -> Status {
    const NAME: &str = "halo_queue_new";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Communicator::at(NAME, communicator)?, result(NAME, "queue", queue)?) };
        let queue = Queue::of(NAME, this.shared(), this.place())?;
        place.write(Box::into_raw(Box::new(queue)));
        Ok(())
    })
}

/// Starts an operation and gives its ticket. Its buffers are lent until it is done: until then nobody reads what it
/// writes, or writes what it reads or writes.
///
/// # Safety
/// `queue` is NULL or a queue that was not freed; `request` is NULL or points to a request whose buffers nobody else
/// uses until it is done, or has failed; `ticket` is NULL or points to memory for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_queue_start(
    queue: *mut Queue,
    request: *const Request,
    ticket: *mut u64,
) -> Status {
    const NAME: &str = "halo_queue_start";
    boundary(NAME, || {
        // SAFETY: as this function's contract says; the buffers are lent until the operation is done, and a queue
        // touches none after that.
        let (this, place, checked) = unsafe {
            let this = Queue::at(NAME, queue)?;
            let place = result(NAME, "ticket", ticket)?;
            let request = request.as_ref().ok_or(Error::Null { function: NAME, argument: "request" })?;
            let checked = check(NAME, this.place, request)?;
            (this, place, checked)
        };
        let started = this.run(NAME, |jobs| jobs.start(checked.operation))?;
        place.write(started.number());
        Ok(())
    })
}

/// Whether the operation of `ticket` is done: `*done` becomes 1 or 0. Never waits.
///
/// # Safety
/// `queue` is NULL or a queue that was not freed; `done` is NULL or points to memory for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_queue_test(queue: *mut Queue, ticket: u64, done: *mut i32) -> Status {
    const NAME: &str = "halo_queue_test";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let (this, place) = unsafe { (Queue::at(NAME, queue)?, result(NAME, "done", done)?) };
        let ticket = this.ticket(NAME, ticket)?;
        place.write(i32::from(this.run(NAME, |jobs| jobs.test(ticket))?));
        Ok(())
    })
}

/// Returns when the operation of `ticket`, and with it every earlier one, is done.
///
/// # Safety
/// `queue` is NULL or a queue that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_queue_wait(queue: *mut Queue, ticket: u64) -> Status {
    const NAME: &str = "halo_queue_wait";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let this = unsafe { Queue::at(NAME, queue) }?;
        let ticket = this.ticket(NAME, ticket)?;
        this.run(NAME, |jobs| jobs.wait(ticket))
    })
}

/// Completes what is left, destroys the queue and gives the communicator back to other calls. A failure meanwhile is
/// remembered by the communicator, whose next call answers with it. NULL is allowed and does nothing.
///
/// # Safety
/// `queue` is NULL or came from `halo_queue_new`, no thread is in a call with it, and it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_queue_free(queue: *mut Queue) {
    if queue.is_null() {
        return;
    }
    // SAFETY: made by Box::into_raw in `halo_queue_new`, and given back once.
    let owned = unsafe { Box::from_raw(queue) };
    boundary("halo_queue_free", move || {
        drop(owned);
        Ok(())
    });
}

impl Queue {
    fn of(function: &'static str, home: &Arc<Shared>, place: Place) -> Result<Self, Error> {
        let open = Box::into_raw(home.lend(function)?);
        // SAFETY: the communicator stays where it is, and nobody else uses it, until `jobs` is gone.
        let jobs = Some(unsafe { &mut *open }.queue());
        Ok(Self { jobs, open, place, home: Arc::clone(home) })
    }

    /// The queue behind a pointer from C.
    ///
    /// # Safety
    /// `pointer` is NULL or a queue that nobody else uses, and that is not freed, during `'a`.
    unsafe fn at<'a>(function: &'static str, pointer: *mut Self) -> Result<&'a mut Self, Error> {
        // SAFETY: the caller promises it.
        unsafe { pointer.as_mut() }.ok_or(Error::Null { function, argument: "queue" })
    }

    /// Moves the operations on. After a panic in that nobody does any more, and the communicator is gone.
    fn run<T>(
        &mut self,
        function: &'static str,
        work: impl FnOnce(&mut Jobs<'static, 'static>) -> Result<T, halo_ccl::Error>,
    ) -> Result<T, Error> {
        let jobs = self.jobs(function)?;
        match catch_unwind(AssertUnwindSafe(|| work(jobs))) {
            Ok(done) => Ok(done?),
            Err(panic) => {
                // Dropping them would go on with the one that is half done.
                std::mem::forget(self.jobs.take());
                self.leave();
                resume_unwind(panic)
            }
        }
    }

    /// Destroys the communicator. Once, and when the jobs are gone.
    fn leave(&mut self) {
        debug_assert!(self.jobs.is_none(), "nothing borrows the communicator");
        // SAFETY: made by Box::into_raw in `of`, and taken back once: whoever takes the jobs does it.
        abandon(unsafe { Box::from_raw(self.open) });
        self.home.break_off();
    }

    fn ticket(&mut self, function: &'static str, ticket: u64) -> Result<Ticket, Error> {
        let jobs = self.jobs(function)?;
        jobs.ticket(ticket).ok_or(Error::UnknownTicket { function, ticket, started: jobs.started() })
    }

    fn jobs(&mut self, function: &'static str) -> Result<&mut Jobs<'static, 'static>, Error> {
        let message = || "an earlier call with this queue did".to_owned();
        self.jobs.as_mut().ok_or_else(|| Error::Panic { function, message: message() })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // After a panic there is nothing to complete, and nothing to give back.
        let Some(jobs) = self.jobs.take() else { return };
        // Completes what is left; then nothing borrows the communicator any more.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(jobs))) {
            self.leave();
            resume_unwind(panic);
        }
        // SAFETY: made by Box::into_raw in `of`, and taken back once: whoever takes the jobs does it.
        self.home.give_back(unsafe { Box::from_raw(self.open) });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use halo_ccl::{Config, DType, Request as Operation};

    use super::*;
    use crate::c_api::status::{HALO_ERROR_PANIC, HALO_OK};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn pair() -> [Open; 2] {
        let rendezvous = halo_ccl::reserve_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap().to_string();
        let connect = |rank| {
            let rendezvous = rendezvous.clone();
            Open::connect(&Config { rendezvous, timeout: PATIENCE, ..Config::new(rank, 2) }).unwrap()
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| connect(1));
            [connect(0), other.join().unwrap()]
        })
    }

    #[test]
    fn a_panic_ends_the_queue_and_the_communicator_and_the_peers_know() {
        let [ours, mut theirs] = pair();
        let peer = thread::spawn(move || theirs.recv(&mut [0; 4], DType::U8, 0).unwrap_err());
        let home = Arc::new(Shared::new(ours));
        let mut queue = Queue::of("f", &home, Place { rank: 0, world: 2 }).unwrap();
        let start = Instant::now();
        let never = Operation::Recv { data: Vec::leak(vec![0; 4]), dtype: DType::U8, from: 1 };
        let ticket = queue.run("f", |jobs| jobs.start(never)).unwrap();
        let panics = |queue: &mut Queue| queue.run("f", |_| -> Result<(), _> { panic!("inside") });
        assert_eq!(boundary("f", || panics(&mut queue)), HALO_ERROR_PANIC);
        let told = peer.join().unwrap();
        assert!(told.to_string().contains("HALO-E0511: halo panicked"), "{told}");
        let again = queue.run("f", |jobs| jobs.wait(ticket)).unwrap_err().to_string();
        assert!(again.contains("an earlier call"), "{again}");
        let free = boundary("f", move || {
            drop(queue);
            Ok(())
        });
        assert_eq!(free, HALO_OK);
        assert!(start.elapsed() < PATIENCE, "what was left was waited for");
        let closed = home.close("f").map(drop).unwrap_err().to_string();
        assert!(closed.contains("an earlier call with this communicator"), "{closed}");
    }
}
