//! Running a job: to its end, its failure or its deadline.

use std::fmt::Display;
use std::time::Duration;

use halo_fabric::{Fabric, FabricError};

use super::Communicator;
use super::job::Job;
use crate::error::Error;
use crate::operation::{Kind, Operation};
use crate::plan::{Plan, PlanError, Progress};
use crate::request::Request;
use crate::wait::{Idle, Wait};

/// Idle turns are this long before a rank asks whether its peer can still answer at all.
const ASK_AFTER: Duration = Duration::from_millis(1);

/// A wait this long is told to the peers, or half the deadline: theirs may end before it does.
const SAY_AFTER: Duration = Duration::from_secs(1);

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
                    Idle::Sleep { waited, at_most } => {
                        self.be_patient(job, waited)?;
                        if self.sleep_for(job, at_most) {
                            wait.rung();
                        }
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
                self.last = Some(job.operation);
                if self.said_waits {
                    self.said_waits = false;
                    self.mesh.say_waits(None);
                }
                if let Some(scratch) = job.plan.take_scratch() {
                    self.scratch = scratch;
                }
                Ok(Progress::Done)
            }
            Ok(progress) => match self.mesh.progress() {
                Ok(()) => Ok(progress),
                Err(error) => {
                    let error = self.amid(Some(&job.operation), error);
                    Err(self.fail(error))
                }
            },
            Err(error) => {
                let error = self.explain(&job.operation, error);
                Err(self.fail(error))
            }
        }
    }

    /// Sleeps until a peer that the job waits for does something, or for a short while; whether the bell was rung.
    pub(super) fn sleep_for(&mut self, job: &Job<'_>, at_most: Duration) -> bool {
        let peers = job.plan.waiting_for(&self.mesh);
        self.mesh.sleep(&peers, at_most)
    }

    /// After some waiting: whether it makes sense to wait on, because nobody has left and the deadline has not passed.
    pub(super) fn be_patient(&mut self, job: &Job<'_>, waited: Duration) -> Result<(), Error> {
        if waited < ASK_AFTER {
            return Ok(());
        }
        if self.config.interrupt.wanted() {
            let error = Error::Interrupted { operation: job.operation.to_string(), rank: self.rank() };
            return Err(self.fail(error));
        }
        let waiting_for = job.plan.waiting_for(&self.mesh);
        if !self.said_waits && waited >= SAY_AFTER.min(self.config.timeout / 2) {
            self.said_waits = true;
            let ranks = waiting_for.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.mesh.say_waits(Some(format!("{} for rank(s) {ranks}", job.operation)));
        }
        self.still_possible(&job.operation, &waiting_for, waited).map_err(|error| self.fail(error))
    }

    fn still_possible(
        &self,
        operation: &Operation,
        waiting_for: &[usize],
        waited: Duration,
    ) -> Result<(), Error> {
        let expect =
            |peer: &usize| self.mesh.expect(*peer).map_err(|error| self.amid(Some(operation), error));
        waiting_for.iter().try_for_each(expect)?;
        if waited < self.config.timeout {
            return Ok(());
        }
        let name = |peer: &usize| {
            let link = self.links.iter().find(|link| link.peer == *peer);
            let way = link.map_or_else(String::new, |link| format!("{} by {}", link.host, link.transport));
            let itself = self.mesh.waits_in(*peer).map(|within| format!("; itself waiting in {within}"));
            format!("{peer} ({way}{})", itself.unwrap_or_default())
        };
        Err(Error::Timeout {
            operation: operation.to_string(),
            rank: self.rank(),
            waiting_for: waiting_for.iter().map(name).collect::<Vec<_>>().join(", "),
            after: waited,
        })
    }

    fn explain(&self, operation: &Operation, error: PlanError) -> Error {
        let malformed = |peer: usize, cause: String| {
            Error::Fabric(FabricError::MalformedMessage { peer, host: self.host(peer), cause })
        };
        match error {
            PlanError::Fabric(error) => self.amid(Some(operation), error),
            PlanError::Mismatch { peer, theirs } => match Operation::from_tag(theirs) {
                Some(theirs) => self.mismatch(operation, peer, theirs),
                None => malformed(peer, format!("{theirs:?} names no operation")),
            },
            PlanError::WrongLength { peer, given, expected } => {
                malformed(peer, format!("{given} bytes where {operation} has {expected}"))
            }
        }
    }

    fn host(&self, peer: usize) -> String {
        let link = self.links.iter().find(|link| link.peer == peer);
        link.map_or_else(String::new, |link| link.host.clone())
    }

    /// A peer's message is of another operation than this rank is in. What this rank did instead of it may be past: a rank
    /// that only sends goes on without hearing anything.
    pub(super) fn mismatch(&self, ours: &dyn Display, peer: usize, theirs: Operation) -> Error {
        let ours = match &self.last {
            // A message of a pair says nothing of where it belongs among the operations of all.
            Some(last) if theirs.kind == Kind::SendRecv => format!("{ours} after {last}"),
            Some(last) if last.epoch == theirs.epoch => last.to_string(),
            _ => ours.to_string(),
        };
        let (rank, host) = (self.rank(), self.host(peer));
        Error::Mismatch { rank, ours, peer, host, theirs: theirs.to_string() }
    }

    /// The fabric's error; a peer that gave up does not know what this rank was doing, or had done last.
    pub(super) fn amid(&self, operation: Option<&Operation>, error: FabricError) -> Error {
        match (error, operation) {
            (FabricError::StoppedByPeer { peer, host, reason }, Some(operation)) => {
                let reason = format!("{reason}; rank {} was in {operation}", self.rank());
                FabricError::StoppedByPeer { peer, host, reason }.into()
            }
            (error, _) => error.into(),
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
