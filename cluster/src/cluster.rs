//! All nodes of a launch at once: ask them, wait for them, notice what ends on them, stop them.

pub mod run;

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
/// How long the reason may take to follow when its consequence was seen first.
const REASON: Duration = Duration::from_secs(3);
/// Ranks that end within this are told together: agents look once a second, so the first seen need not be the first.
const TOGETHER: Duration = Duration::from_secs(2);

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
    last_ping: Instant,
    /// Per node and process, the last line that speaks of an error, else the last line.
    last_lines: Vec<(usize, String, String)>,
    /// The first error of halo itself that a process printed, from its code on.
    halo_error: Option<String>,
    stopping: bool,
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
            last_ping: Instant::now(),
            last_lines: Vec::new(),
            halo_error: None,
            stopping: false,
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
            let answer = self.step(deadline, &mut |_, message| match message {
                Message::Reply { reply, result, error } => Some((*reply, result.clone(), error.clone())),
                Message::Event(_) => None,
            })?;
            let Some((reply, result, error)) = answer else { continue };
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
        let timeout = self.config.timeouts.connect;
        self.ask(job.node, job.request(), timeout).map(|_| ())
    }

    /// Waits until `found` makes something of a message, or the deadline passes (none). A node, rank or process that
    /// ends meanwhile, and Ctrl-C, are errors.
    pub fn wait<T>(
        &mut self,
        deadline: Option<Instant>,
        mut found: impl FnMut(usize, &Message) -> Option<T>,
    ) -> Result<Option<T>, ClusterError> {
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

    /// Remembers what later reports and errors need.
    fn note(&mut self, index: usize, message: &Message) {
        match message {
            Message::Event(Event::Output { process, line }) => self.note_line(index, process, line),
            Message::Event(Event::Statistics { file, pid, statistics }) => {
                let node = self.name(index);
                let new = RankState::new(node, file.clone(), *pid, statistics);
                match self.ranks.iter_mut().find(|rank| rank.node == new.node && rank.file == new.file) {
                    Some(rank) => *rank = new,
                    None => self.ranks.push(new),
                }
            }
            Message::Event(Event::RankEnded { file, .. }) => {
                let node = self.name(index);
                let ended = |rank: &&mut RankState| rank.node == node && rank.file == *file;
                if let Some(rank) = self.ranks.iter_mut().find(ended) {
                    rank.alive = false;
                }
            }
            _ => {}
        }
    }

    fn note_line(&mut self, index: usize, process: &str, line: &str) {
        if let Some(at) = line.find("HALO-E").filter(|_| self.halo_error.is_none()) {
            self.halo_error = Some(line[at..].chars().take(300).collect());
        }
        let speaks =
            |line: &str| line.contains("HALO-E") || (line.contains("Error") && !line.contains(" WARNING "));
        if line.trim().is_empty() {
            return;
        }
        match self.last_lines.iter_mut().find(|(node, name, _)| *node == index && name == process) {
            // The first error is the reason; those after it are its consequences.
            Some((_, _, kept)) if speaks(kept) => {}
            Some((_, _, kept)) => line.trim().clone_into(kept),
            None => self.last_lines.push((index, process.to_owned(), line.trim().to_owned())),
        }
    }

    fn last_line(&self, index: usize, process: &str) -> String {
        let found = self.last_lines.iter().find(|(node, name, _)| *node == index && name == process);
        found.map(|(_, _, line)| format!(": {line}")).unwrap_or_default()
    }

    /// What a message means that nobody waited for.
    fn failure(&mut self, index: usize, message: &Message) -> Option<ClusterError> {
        if self.stopping {
            return None;
        }
        match message {
            Message::Event(Event::RankEnded { .. }) => Some(self.rank_ended()),
            Message::Event(Event::Exited { process, status }) => {
                Some(self.reason().unwrap_or_else(|| self.process_ended(index, process, *status)))
            }
            _ => None,
        }
    }

    pub fn process_ended(&self, index: usize, process: &str, status: i64) -> ClusterError {
        ClusterError::ProcessEnded {
            node: self.name(index),
            process: process.to_owned(),
            status: if status < 0 { format!("signal {}", -status) } else { format!("status {status}") },
            last: self.last_line(index, process),
            log: self.log(index, process),
        }
    }

    /// One rank's end takes others with it. The one that recorded no failure of halo's was not taken, so it is named
    /// first.
    fn rank_ended(&mut self) -> ClusterError {
        if let Some(worse) =
            self.hear(TOGETHER, |cluster, _, _| cluster.ranks.iter().all(|rank| !rank.alive).then_some(None))
        {
            return worse;
        }
        let mut ended: Vec<_> = self.ranks.iter().filter(|rank| !rank.alive).collect();
        ended.sort_by_key(|rank| rank.failure().is_some());
        let Some(first) = ended.first().copied() else {
            unreachable!("an agent tells of a rank before its end")
        };
        let others: Vec<_> = ended[1..]
            .iter()
            .filter(|rank| (&rank.node, rank.pid) != (&first.node, first.pid))
            .map(|rank| {
                format!(
                    ", and rank {} ({}) on node {} (process {})",
                    rank.rank, rank.group, rank.node, rank.pid
                )
            })
            .collect();
        // A rank that stopped because of another one says which.
        let failure = self.halo_error.as_deref().or_else(|| self.ranks.iter().find_map(RankState::failure));
        ClusterError::RankEnded {
            group: first.group.clone(),
            rank: first.rank,
            node: first.node.clone(),
            pid: first.pid,
            others: others.concat(),
            halo: failure.map(|error| format!("; {error}")).unwrap_or_default(),
            logs: self.logs.display().to_string(),
        }
    }

    /// A process ended, which may be the consequence of a node's end that is noticed a moment later.
    fn reason(&mut self) -> Option<ClusterError> {
        self.hear(REASON, |cluster, index, message| match message {
            Message::Event(Event::Exited { process, status }) if process == "ray" => {
                Some(Some(cluster.process_ended(index, process, *status)))
            }
            _ => None,
        })
        .or_else(|| self.silence(REASON.mul_f64(0.8)))
    }

    /// Listens on after something ended, until `enough` has what it wants or `patience` is over; a node that is lost
    /// meanwhile, or Ctrl-C, explains more than whatever else is heard.
    fn hear(
        &mut self,
        patience: Duration,
        enough: impl Fn(&Self, usize, &Message) -> Option<Option<ClusterError>>,
    ) -> Option<ClusterError> {
        let deadline = Instant::now() + patience;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.inbox.recv_timeout(left) {
                Ok(Signal::Said(index, message)) => {
                    self.heard[index] = Some(Instant::now());
                    self.note(index, &message);
                    if let Some(found) = enough(self, index, &message) {
                        return found;
                    }
                }
                Ok(Signal::Closed(index, said)) => {
                    self.agents[index] = None;
                    return Some(self.closed(index, said));
                }
                Ok(Signal::Interrupt) => return Some(ClusterError::Interrupted),
                Err(_) => break,
            }
        }
        None
    }

    /// The connection to a node ended: before it ever spoke, ssh's words tell why.
    fn closed(&self, index: usize, said: String) -> ClusterError {
        let node = self.config.nodes[index].get_ref();
        let spoke = self.heard[index].is_some();
        // Engines begin what they say with `Error`; ssh does not, nor does an interpreter that is not there.
        match &self.config.container {
            Some(container)
                if !spoke && ["Error", "error:", "Error:"].iter().any(|word| said.starts_with(word)) =>
            {
                ClusterError::Container {
                    node: node.name.clone(),
                    engine: container.engine.name().to_owned(),
                    name: container.name.clone(),
                    cause: said,
                }
            }
            _ => crate::agent::closed(node, self.config.python_of(node), spoke, said),
        }
    }

    fn silence(&self, limit: Duration) -> Option<ClusterError> {
        let silent = |heard: &Option<Instant>| heard.is_some_and(|heard| heard.elapsed() > limit);
        let index = (0..self.heard.len())
            .find(|index| self.agents[*index].is_some() && silent(&self.heard[*index]))?;
        let cause = format!("no word from it for {} s", limit.as_secs());
        (!self.stopping).then(|| ClusterError::NodeLost { node: self.name(index), cause })
    }

    fn no_answer(&self, index: usize, what: &str, timeout: Duration) -> ClusterError {
        ClusterError::NoAnswer { node: self.name(index), what: what.to_owned(), seconds: timeout.as_secs() }
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

    /// Stops everything everywhere: vLLM first, so that it may say goodbye to its workers, then all nodes at once.
    /// The nodes that could not be cleaned are returned.
    pub fn stop(&mut self) -> Vec<String> {
        self.stopping = true;
        let grace = self.config.timeouts.stop;
        let patience = grace + Duration::from_secs(10);
        if self.agents[0].is_some() {
            // Whatever it answers, the next request is harder.
            let _ = self.ask(0, json!({"op": "end", "process": "vllm", "grace": grace.as_secs()}), patience);
        }
        self.ask_to_stop(grace);
        // An agent that went before it was told to may have left something.
        self.sweep_all()
    }

    /// Every agent ends its processes and goes.
    fn ask_to_stop(&mut self, grace: Duration) {
        for index in 0..self.agents.len() {
            self.send(index, &json!({"op": "stop", "id": 0, "grace": grace.as_secs()}));
        }
        let deadline = Instant::now() + grace + Duration::from_secs(10);
        while self.agents.iter().any(Option::is_some) && Instant::now() < deadline {
            let _ = self.step(deadline, &mut |_, _| None::<()>);
        }
    }

    /// Removes what is left of this launch on one node; false if the node cannot be asked.
    fn sweep(&mut self, index: usize) -> bool {
        self.stopping = true;
        self.heard[index] = None;
        let Ok(agent) = Agent::start(&self.config, index, &self.launch, &self.logs, &self.sender) else {
            return false;
        };
        self.agents[index] = Some(agent);
        self.send(index, &json!({"op": "sweep", "id": 0}));
        let deadline = Instant::now() + self.config.timeouts.connect + Duration::from_secs(5);
        let mut swept = false;
        while !swept && self.agents[index].is_some() && Instant::now() < deadline {
            let answer = self.step(deadline, &mut |from, message| {
                (from == index).then_some(())?;
                matches!(message, Message::Reply { error: None, .. }).then_some(())
            });
            swept = matches!(answer, Ok(Some(())));
        }
        if let Some(mut agent) = self.agents[index].take() {
            agent.close(Duration::from_secs(5));
        }
        swept
    }

    /// [`Cluster::sweep`] on every node, for a launch whose own process is gone; the nodes that cannot be asked.
    pub fn sweep_all(&mut self) -> Vec<String> {
        let mut unclean = Vec::new();
        for index in 0..self.agents.len() {
            if !self.sweep(index) {
                unclean.push(self.name(index));
            }
        }
        unclean
    }
}
