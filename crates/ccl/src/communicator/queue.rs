//! Operations that begin now and end later, while the caller computes.

use std::collections::VecDeque;
use std::time::Instant;

use super::Communicator;
use super::job::Job;
use crate::error::Error;
use crate::plan::Progress;
use crate::request::Request;
use crate::wait::{Idle, Wait};

/// Operations under way, done in the order in which they were started. They move on in every call of the queue, and
/// only there: no thread works behind the caller's back. Dropping the queue completes what is left; a failure then is
/// remembered by the communicator.
///
/// ```no_run
/// # fn overlap(communicator: &mut halo_ccl::Communicator, a: &mut [u8], b: &mut [u8]) -> Result<(), halo_ccl::Error> {
/// use halo_ccl::{DType, Input, ReduceOp, Request};
/// let sum = |output| Request::AllReduce { input: Input::InPlace, output, dtype: DType::F32, op: ReduceOp::Sum };
/// let mut queue = communicator.queue();
/// let first = queue.start(sum(a))?;
/// let second = queue.start(sum(b))?;
/// while !queue.test(first)? { /* compute something else */ }
/// queue.wait(second)
/// # }
/// ```
#[derive(Debug)]
pub struct Queue<'c, 'b> {
    communicator: &'c mut Communicator,
    jobs: VecDeque<Job<'b>>,
    /// How many have been done; the number of the first one in `jobs`.
    done: u64,
    /// What ended all that were left.
    failure: Option<Error>,
    idle_since: Option<Instant>,
}

/// One operation of a [`Queue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Ticket {
    /// Its number, counted from 0 among the queue's operations.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Communicator {
    /// A queue for operations that do not block.
    pub fn queue<'b>(&mut self) -> Queue<'_, 'b> {
        Queue { communicator: self, jobs: VecDeque::new(), done: 0, failure: None, idle_since: None }
    }
}

impl<'b> Queue<'_, 'b> {
    /// Starts an operation; its buffers are lent until the queue is gone.
    ///
    /// # Errors
    /// As [`Communicator::run`]: a refused argument, or a failure of this or an earlier operation.
    pub fn start(&mut self, request: Request<'b>) -> Result<Ticket, Error> {
        let job = self.communicator.begin(request)?;
        let ticket = Ticket(self.started());
        self.jobs.push_back(job);
        self.advance()?;
        Ok(ticket)
    }

    /// How many operations have been started.
    pub fn started(&self) -> u64 {
        self.done + self.jobs.len() as u64
    }

    /// The operation with this number, if so many have been started.
    pub fn ticket(&self, number: u64) -> Option<Ticket> {
        (number < self.started()).then_some(Ticket(number))
    }

    /// Whether an operation is done. Never waits.
    ///
    /// # Errors
    /// A failure of this or an earlier operation, its deadline included.
    pub fn test(&mut self, ticket: Ticket) -> Result<bool, Error> {
        self.advance()?;
        Ok(ticket.0 < self.done)
    }

    /// Returns when an operation is done.
    ///
    /// # Errors
    /// As [`Queue::test`].
    ///
    /// # Panics
    /// If the ticket is another queue's, and this one has not started as many operations.
    pub fn wait(&mut self, ticket: Ticket) -> Result<(), Error> {
        let started = self.started();
        assert!(
            ticket.0 < started || self.failure.is_some(),
            "{ticket:?} of another queue: {started} started"
        );
        let mut wait = Wait::begun(&self.communicator.config, self.idle_since);
        while ticket.0 >= self.done {
            if self.advance()? {
                wait.moved();
            } else if let (Idle::Sleep { at_most, .. }, Some(job)) = (wait.idle(), self.jobs.front())
                && self.communicator.sleep_for(job, at_most)
            {
                wait.rung();
            }
        }
        Ok(())
    }

    /// Returns when all operations are done.
    ///
    /// # Errors
    /// As [`Queue::test`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.complete()
    }

    fn complete(&mut self) -> Result<(), Error> {
        match self.jobs.len() as u64 {
            0 => self.failure.clone().map_or(Ok(()), Err),
            left => self.wait(Ticket(self.done + left - 1)),
        }
    }

    /// Does what can be done now; whether that was anything.
    fn advance(&mut self) -> Result<bool, Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.step().inspect_err(|error| {
            // Nothing of them can be done any more.
            self.jobs.clear();
            self.failure = Some(error.clone());
        })
    }

    fn step(&mut self) -> Result<bool, Error> {
        let mut any = false;
        while let Some(job) = self.jobs.front_mut() {
            match self.communicator.step(job)? {
                Progress::Done => {
                    self.jobs.pop_front();
                    self.done += 1;
                }
                Progress::Moved => {}
                Progress::Idle => {
                    let since = *self.idle_since.get_or_insert_with(Instant::now);
                    self.communicator.be_patient(job, since.elapsed())?;
                    return Ok(any);
                }
            }
            self.idle_since = None;
            any = true;
        }
        Ok(any)
    }
}

impl Drop for Queue<'_, '_> {
    fn drop(&mut self) {
        let _ = self.complete();
    }
}
