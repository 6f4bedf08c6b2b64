//! Operations that begin now and end later, while the caller computes.

use std::sync::Arc;

use halo_ccl::{Communicator as Open, Queue as Jobs, Ticket};

use crate::c_api::buffer::result;
use crate::c_api::communicator::{Communicator, Place};
use crate::c_api::error::Error;
use crate::c_api::request::{Request, check};
use crate::c_api::shared::Shared;
use crate::c_api::status::{Status, boundary};

/// Operations under way, done in the order in which they were started. They move on in every call with the queue, and
/// only there: no thread works behind the caller's back. While a queue is open, only it can use its communicator.
/// Destroyed by `halo_queue_free`, which completes what is left.
///
/// A queue is used by one thread at a time.
pub struct Queue {
    /// `Some` until it is freed. It borrows `open`, and is dropped before that goes home.
    jobs: Option<Jobs<'static, 'static>>,
    tickets: Vec<Ticket>,
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
        let open = Box::into_raw(this.shared().lend(NAME)?);
        // SAFETY: the communicator stays where it is, and nobody else uses it, until `drop` takes it home.
        let jobs = Some(unsafe { &mut *open }.queue());
        let (tickets, home) = (Vec::new(), Arc::clone(this.shared()));
        let queue = Queue { jobs, tickets, open, place: this.place(), home };
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
        let started = this.jobs().start(checked.operation)?;
        place.write(this.tickets.len() as u64);
        this.tickets.push(started);
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
        place.write(i32::from(this.jobs().test(ticket)?));
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
        Ok(this.jobs().wait(ticket)?)
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
    /// The queue behind a pointer from C.
    ///
    /// # Safety
    /// `pointer` is NULL or a queue that nobody else uses, and that is not freed, during `'a`.
    unsafe fn at<'a>(function: &'static str, pointer: *mut Self) -> Result<&'a mut Self, Error> {
        // SAFETY: the caller promises it.
        unsafe { pointer.as_mut() }.ok_or(Error::Null { function, argument: "queue" })
    }

    fn jobs(&mut self) -> &mut Jobs<'static, 'static> {
        self.jobs.as_mut().expect("a queue has its jobs until it is dropped")
    }

    fn ticket(&self, function: &'static str, ticket: u64) -> Result<Ticket, Error> {
        let found = usize::try_from(ticket).ok().and_then(|at| self.tickets.get(at)).copied();
        found.ok_or(Error::UnknownTicket { function, ticket, started: self.tickets.len() as u64 })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Completes what is left; then nothing borrows the communicator any more.
        drop(self.jobs.take());
        // SAFETY: made by Box::into_raw in `halo_queue_new`, and taken back once.
        self.home.give_back(unsafe { Box::from_raw(self.open) });
    }
}
