//! Running a job: to its end, its failure or its deadline.

use std::time::Duration;

use halo_fabric::{Fabric, FabricError};

use super::Communicator;
use super::job::{AnyPlan, Job};
use crate::error::Error;
use crate::operation::Operation;
use crate::plan::{Plan, PlanError, Progress};
use crate::request::Request;
use crate::wait::{Idle, Wait};

/// Idle turns are this long before a rank asks whether its peer can still answer at all.
const ASK_AFTER: Duration = Duration::from_millis(1);

/// One sleep: a failure that nobody rings for is noticed this late.
const SLEEP: Duration = Duration::from_millis(20);

impl Communicator {
    /// Does one operation; returns when this rank's part is done.
    ///
    /// # Errors
    /// As the method of that name has them.
    #[inline]
    pub fn run(&mut self, request: Request<'_>) -> Result<(), Error> {
        // A job is several hundred bytes: it stays where it was made.
        match &mut self.begin(request) {
            Ok(job) => self.complete(job),
            Err(error) => Err(error.clone()),
        }
    }

    pub(super) fn complete(&mut self, job: &mut Job<'_>) -> Result<(), Error> {
        let mut wait = Wait::new(&self.config);
        loop {
            match self.step(job)? {
                Progress::Done => return Ok(()),
                Progress::Moved => wait.moved(),
                Progress::Idle => match wait.idle() {
                    Idle::Spun => {}
                    Idle::Waited(waited) => self.be_patient(job, waited)?,
                    Idle::Sleep(waited) => {
                        self.be_patient(job, waited)?;
                        self.sleep_for(job);
                    }
                },
            }
        }
    }

    /// Does what can be done of a job now.
    #[inline(always)]
    pub(super) fn step(&mut self, job: &mut Job<'_>) -> Result<Progress, Error> {
        match job.plan.step(&mut self.mesh) {
            Ok(Progress::Done) => {
                self.counters.record(job.operation.kind, job.operation.bytes, job.start);
                if let Some(scratch) = job.plan.take_scratch() {
                    self.scratch = scratch;
                }
                Ok(Progress::Done)
            }
            Ok(progress) => {
                self.mesh.progress().map_err(|error| self.fail(error.into()))?;
                Ok(progress)
            }
            Err(error) => {
                let error = self.explain(&job.operation, error);
                Err(self.fail(error))
            }
        }
    }

    /// Sleeps until a peer that the job waits for does something, or for a short while.
    pub(super) fn sleep_for(&self, job: &Job<'_>) {
        self.mesh.sleep(&job.plan.waiting_for(&self.mesh), SLEEP);
    }

    /// After some waiting: whether it makes sense to wait on, because nobody has left and the deadline has not passed.
    pub(super) fn be_patient(&mut self, job: &Job<'_>, waited: Duration) -> Result<(), Error> {
        if waited < ASK_AFTER {
            return Ok(());
        }
        if self.interrupt.wanted() {
            let error = Error::Interrupted { operation: job.operation.to_string(), rank: self.rank() };
            return Err(self.fail(error));
        }
        self.still_possible(&job.operation, &job.plan, waited).map_err(|error| self.fail(error))
    }

    fn still_possible(
        &self,
        operation: &Operation,
        plan: &AnyPlan<'_>,
        waited: Duration,
    ) -> Result<(), Error> {
        let waiting_for = plan.waiting_for(&self.mesh);
        waiting_for.iter().try_for_each(|peer| self.mesh.expect(*peer))?;
        if waited < self.config.timeout {
            return Ok(());
        }
        let name = |peer: &usize| match self.links.iter().find(|link| link.peer == *peer) {
            Some(link) => format!("{peer} ({} by {})", link.host, link.transport),
            None => peer.to_string(),
        };
        Err(Error::Timeout {
            operation: operation.to_string(),
            rank: self.rank(),
            waiting_for: waiting_for.iter().map(name).collect::<Vec<_>>().join(", "),
            after: waited,
        })
    }

    fn explain(&self, operation: &Operation, error: PlanError) -> Error {
        let host = |peer: usize| {
            let link = self.links.iter().find(|link| link.peer == peer);
            link.map_or_else(String::new, |link| link.host.clone())
        };
        let malformed = |peer: usize, cause: String| {
            Error::Fabric(FabricError::MalformedMessage { peer, host: host(peer), cause })
        };
        match error {
            PlanError::Fabric(error) => error.into(),
            PlanError::Mismatch { peer, theirs } => match Operation::from_tag(theirs) {
                Some(theirs) => Error::Mismatch {
                    rank: self.rank(),
                    ours: operation.to_string(),
                    peer,
                    host: host(peer),
                    theirs: theirs.to_string(),
                },
                None => malformed(peer, format!("{theirs:?} names no operation")),
            },
            PlanError::WrongLength { peer, given, expected } => {
                malformed(peer, format!("{given} bytes where {operation} has {expected}"))
            }
        }
    }

    /// Remembers a failure and tells the peers, so that nobody waits for this rank.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        if error.is_fatal() && self.failed.is_none() {
            let failure = format!("{}: {error}", error.stable_code());
            self.mesh.stop_everybody(failure.clone());
            self.counters.fail(failure);
            if let Some(file) = &self.statistics_file {
                file.renew();
            }
            self.failed = Some(error.clone());
        }
        error
    }
}
