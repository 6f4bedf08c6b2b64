//! All nodes of a launch at once: ask them, wait for them, notice what ends on them, stop them.

mod failure;
pub mod run;
mod stop;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::agent::{Agent, Event, Message, Signal};
use crate::config::Config;
use crate::error::ClusterError;
use crate::plan::Job;
use crate::state::RankState;

/// An agent speaks every second; this much silence means that its node is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// The nodes of one launch.
#[derive(Debug)]
pub struct Cluster {
    pub config: Config,
    pub logs: PathBuf,
    /// What every rank reported of itself.
    pub ranks: Vec<RankState>,
    launch: String,
    agents: Vec<Option<Agent>>,
    heard: Vec<Option<Instant>>,
    inbox: Receiver<Signal>,
    sender: Sender<Signal>,
    requests: u64,
    /// What a process said, or that it ended, before its node had answered that it was started: the next wait hears it.
    early: VecDeque<(usize, Event)>,
    last_ping: Instant,
    /// Per node and process, the last line that speaks of an error, else the last line.
    last_lines: Vec<(usize, String, String)>,
    /// The first error of halo itself that a process printed, from its code on.
    halo_error: Option<String>,
    stopping: bool,
    /// Whether the model is served: then a log that cannot be written ends nothing, and waits here to be said.
    pub serving: bool,
    pub log_lost: Option<io::Error>,
}

impl Cluster {
    /// Nodes that are not connected yet. From here on SIGINT, SIGTERM and SIGHUP end every wait.
    pub fn new(config: Config, launch: String, logs: PathBuf) -> Result<Self, ClusterError> {
        let (sender, inbox) = mpsc::channel();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|source| ClusterError::Start { program: "signal handler".to_owned(), source })?;
        let interrupts = sender.clone();
        thread::spawn(move || signals.forever().try_for_each(|_| interrupts.send(Signal::Interrupt)));
        let count = config.nodes.len();
        Ok(Self {
            config,
            logs,
            ranks: Vec::new(),
            launch,
            agents: (0..count).map(|_| None).collect(),
            heard: vec![None; count],
            inbox,
            sender,
            requests: 0,
            early: VecDeque::new(),
            last_ping: Instant::now(),
            last_lines: Vec::new(),
            halo_error: None,
            stopping: false,
            log_lost: None,
            serving: false,
        })
    }

    /// Starts every agent and waits until each has spoken.
    pub fn connect(&mut self) -> Result<(), ClusterError> {
        let timeout = self.config.timeouts.connect;
        for index in 0..self.agents.len() {
            let agent = Agent::start(&self.config, index, &self.launch, &self.logs, &self.sender)?;
            self.agents[index] = Some(agent);
        }
        // ssh itself needs `timeout` to give up; its words are better than ours.
        let deadline = Instant::now() + timeout + Duration::from_secs(5);
        while let Some(silent) = self.heard.iter().position(Option::is_none) {
            if Instant::now() > deadline {
                return Err(self.no_answer(silent, "connecting", timeout));
            }
            self.step(deadline, &mut |_, _| None::<()>)?;
        }
        Ok(())
    }

    /// The name of node `index`.
    pub fn name(&self, index: usize) -> String {
        self.config.nodes[index].get_ref().name.clone()
    }

    /// The log of `process` on node `index`.
    pub fn log(&self, index: usize, process: &str) -> String {
        self.logs.join(format!("{}-{process}.log", self.name(index))).display().to_string()
    }

    /// Puts a request to one node and waits for the answer.
    pub fn ask(&mut self, index: usize, request: Value, timeout: Duration) -> Result<Value, ClusterError> {
        self.ask_each(vec![(index, request)], timeout).map(|mut answers| answers.remove(0))
    }

    /// Puts requests to several nodes at once and waits for all answers, in the order of the requests.
    pub fn ask_each(
        &mut self,
        requests: Vec<(usize, Value)>,
        timeout: Duration,
    ) -> Result<Vec<Value>, ClusterError> {
        self.answers(requests, timeout, |_, _| false)
    }

    /// The same; of what happens meanwhile, `keep` may take what is to be heard later.
    fn answers(
        &mut self,
        requests: Vec<(usize, Value)>,
        timeout: Duration,
        mut keep: impl FnMut(usize, &Event) -> bool,
    ) -> Result<Vec<Value>, ClusterError> {
        let mut waiting = Vec::new();
        for (index, mut request) in requests {
            self.requests += 1;
            request["id"] = json!(self.requests);
            let what = request["op"].as_str().unwrap_or_default().to_owned();
            self.send(index, &request);
            waiting.push((index, self.requests, what, None));
        }
        let deadline = Instant::now() + timeout;
        while let Some((index, _, what, _)) = waiting.iter().find(|entry| entry.3.is_none()) {
            let (index, what) = (*index, what.clone());
            if Instant::now() > deadline || self.agents[index].is_none() {
                return Err(self.no_answer(index, &what, timeout));
            }
            let answer = self.step(deadline, &mut |from, message| match message {
                Message::Reply { reply, result, error } => {
                    Some(Some((*reply, result.clone(), error.clone())))
                }
                Message::Event(event) => keep(from, event).then_some(None),
            })?;
            let Some(Some((reply, result, error))) = answer else { continue };
            let Some(entry) = waiting.iter_mut().find(|entry| entry.1 == reply) else { continue };
            if let Some(cause) = error {
                let (node, what) = (self.name(entry.0), entry.2.clone());
                return Err(ClusterError::Agent { node, what, cause });
            }
            entry.3 = Some(result);
        }
        Ok(waiting.into_iter().filter_map(|entry| entry.3).collect())
    }

    /// Starts a process. Should it end, every later wait reports it.
    pub fn start(&mut self, job: &Job) -> Result<(), ClusterError> {
        let (timeout, mut early) = (self.config.timeouts.connect, Vec::new());
        self.answers(vec![(job.node, job.request())], timeout, |from, event| {
            let of_a_process = matches!(event, Event::Output { .. } | Event::Exited { .. });
            if of_a_process {
                early.push((from, event.clone()));
            }
            of_a_process
        })?;
        self.early.extend(early);
        Ok(())
    }

    /// Waits until `found` makes something of a message, or the deadline passes (none). A node, rank or process that
    /// ends meanwhile, and Ctrl-C, are errors.
    pub fn wait<T>(
        &mut self,
        deadline: Option<Instant>,
        mut found: impl FnMut(usize, &Message) -> Option<T>,
    ) -> Result<Option<T>, ClusterError> {
        while let Some((index, event)) = self.early.pop_front() {
            let message = Message::Event(event);
            if let Some(value) = found(index, &message) {
                return Ok(Some(value));
            }
            self.failure(index, &message).map_or(Ok(()), Err)?;
        }
        loop {
            let until = Instant::now() + Duration::from_secs(1);
            let until = deadline.map_or(until, |deadline| deadline.min(until));
            if let Some(value) = self.step(until, &mut found)? {
                return Ok(Some(value));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    /// At most one message.
    fn step<T>(
        &mut self,
        until: Instant,
        found: &mut impl FnMut(usize, &Message) -> Option<T>,
    ) -> Result<Option<T>, ClusterError> {
        self.ping();
        let patience = until.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let signal = match self.inbox.recv_timeout(patience) {
            Ok(signal) => signal,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        };
        match signal {
            Signal::LogLost(source) if self.stopping || self.serving => {
                self.log_lost.get_or_insert(source);
                Ok(None)
            }
            Signal::LogLost(source) => Err(ClusterError::state(&self.logs, source)),
            Signal::Interrupt if self.stopping => Ok(None),
            Signal::Interrupt => Err(ClusterError::Interrupted),
            Signal::Closed(index, said) => {
                self.agents[index] = None;
                if self.stopping { Ok(None) } else { Err(self.closed(index, said)) }
            }
            Signal::Said(index, message) => {
                self.heard[index] = Some(Instant::now());
                self.note(index, &message);
                if let Some(value) = found(index, &message) {
                    return Ok(Some(value));
                }
                self.failure(index, &message).map_or(Ok(None), Err)
            }
        }
        .and_then(|value| self.silence(SILENCE).map_or(Ok(value), Err))
    }

    fn send(&mut self, index: usize, request: &Value) {
        if let Some(agent) = &mut self.agents[index] {
            agent.send(request);
        }
    }

    /// Agents stop everything when the launcher falls silent.
    fn ping(&mut self) {
        if self.last_ping.elapsed() >= Duration::from_secs(1) {
            self.last_ping = Instant::now();
            for agent in self.agents.iter_mut().flatten() {
                agent.send(&json!({"op": "ping"}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// An agent that answers the request to start a process when the process has spoken and ended.
    const LATE: &str = r#"#!/bin/sh
echo '{"event": "alive"}'
while read -r line; do
  case "$line" in '{"'*start*)
    echo '{"event": "output", "process": "ray", "line": "Ray runtime started."}'
    echo '{"event": "exited", "process": "ray", "status": 3}'
    echo '{"reply": 1, "result": null, "error": null}' ;;
  esac
done
"#;

    fn cluster(folder: &Path) -> Cluster {
        let python = folder.join("python");
        fs::write(&python, LATE).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!(
            "model = \"/m\"\npython = \"{}\"\n[[nodes]]\nname = \"a\"\nlocal = true\naddress = \"127.0.0.1\"\n",
            python.display()
        );
        let config = Config::parse(&text, Path::new("cluster.toml")).unwrap();
        Cluster::new(config, "test".to_owned(), folder.to_owned()).unwrap()
    }

    #[test]
    fn what_a_process_says_before_its_start_is_answered_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = cluster(folder.path());
        cluster.connect().unwrap();
        cluster.start(&Job::python(0, "ray", "", &[])).unwrap();
        let soon = || Some(Instant::now() + Duration::from_secs(60));
        let heard = cluster.wait(soon(), |_, message| match message {
            Message::Event(Event::Output { line, .. }) => Some(line.clone()),
            _ => None,
        });
        assert_eq!(heard.unwrap().unwrap(), "Ray runtime started.");
        let ended = cluster.wait(soon(), |_, message| match message {
            Message::Event(Event::Exited { status, .. }) => Some(*status),
            _ => None,
        });
        assert_eq!(ended.unwrap(), Some(3));
    }
}
