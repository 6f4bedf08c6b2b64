//! Processes that end by themselves: start them on their nodes at once and wait for what they printed.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::json;

use super::Cluster;
use crate::agent::{Event, Message};
use crate::config::Config;
use crate::error::ClusterError;
use crate::plan::Job;
use crate::state::{Folder, random_hex};

/// What a process left.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Its exit status, or minus the signal.
    pub status: i64,
    /// Its lines, standard error among them.
    pub lines: Vec<String>,
}

impl Finished {
    /// The last line that is JSON of that shape: how the programs of this crate answer.
    pub fn answer<T: DeserializeOwned>(&self) -> Option<T> {
        self.lines.iter().rev().find_map(|line| serde_json::from_str(line).ok())
    }

    /// The line that says most of a failure: the last.
    pub fn last_line(&self) -> &str {
        let last = self.lines.iter().rev().find(|line| !line.trim().is_empty());
        last.map_or("it printed nothing", |line| line.trim())
    }
}

/// A job under way.
struct Running {
    job: Job,
    request: u64,
    finished: Option<Finished>,
    lines: Vec<String>,
}

impl Cluster {
    /// Connects to all nodes, lets `work` use them, and takes everything back however that ends.
    pub fn visit<T>(
        config: &Config,
        folder: &Folder,
        work: impl FnOnce(&mut Self) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let logs = folder.visit_logs()?;
        let mut cluster = Self::new(config.clone(), random_hex(4)?, logs)?;
        let outcome = cluster.connect().and_then(|()| work(&mut cluster));
        cluster.leave(Duration::from_secs(2));
        outcome
    }

    /// Ends what still runs on the nodes, and the connections.
    fn leave(&mut self, grace: Duration) {
        self.stopping = true;
        self.ask_to_stop(grace);
    }

    /// Runs the jobs, each on its node, and waits for the end of all. `heard` is told of every line as it comes.
    pub fn run_each(
        &mut self,
        jobs: Vec<Job>,
        timeout: Duration,
        mut heard: impl FnMut(&Job, &str),
    ) -> Result<Vec<Finished>, ClusterError> {
        let mut running = Vec::new();
        for job in jobs {
            self.requests += 1;
            let mut request = job.request();
            request["id"] = json!(self.requests);
            self.send(job.node, &request);
            running.push(Running { job, request: self.requests, finished: None, lines: Vec::new() });
        }
        let deadline = Instant::now() + timeout;
        while let Some(silent) = running.iter().position(|entry| entry.finished.is_none()) {
            let refused =
                self.wait(Some(deadline), |node, message| take(&mut running, node, message, &mut heard))?;
            match refused {
                Some(Some((node, what, cause))) => {
                    return Err(ClusterError::Agent { node: self.name(node), what, cause });
                }
                Some(None) => {}
                None => {
                    let job = &running[silent].job;
                    return Err(self.no_answer(job.node, job.process, timeout));
                }
            }
        }
        Ok(running.into_iter().filter_map(|entry| entry.finished).collect())
    }
}

/// What a message means to the running jobs: nothing (none), progress, or that one could not be started.
#[allow(clippy::option_option, reason = "heard or not, and what went wrong")]
fn take(
    running: &mut [Running],
    node: usize,
    message: &Message,
    heard: &mut impl FnMut(&Job, &str),
) -> Option<Option<(usize, String, String)>> {
    match message {
        Message::Reply { reply, error, .. } => {
            let entry = running.iter().find(|entry| entry.request == *reply)?;
            let cause = error.clone()?;
            Some(Some((node, entry.job.process.to_owned(), cause)))
        }
        Message::Event(Event::Output { process, line }) => {
            let entry = running.iter_mut().find(|entry| entry.is(node, process))?;
            heard(&entry.job, line);
            entry.lines.push(line.clone());
            Some(None)
        }
        Message::Event(Event::Exited { process, status }) => {
            let entry = running.iter_mut().find(|entry| entry.is(node, process))?;
            entry.finished = Some(Finished { status: *status, lines: std::mem::take(&mut entry.lines) });
            Some(None)
        }
        Message::Event(_) => None,
    }
}

impl Running {
    fn is(&self, node: usize, process: &str) -> bool {
        self.job.node == node && self.job.process == process && self.finished.is_none()
    }
}
