//! Readings from all nodes, each asked by a thread of its own: one that is slow or gone does not hold up the others.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::prometheus::Figures;
use super::snapshot::{self, Launch, Node, Now, Sample, Snapshot, Vllm};
use crate::config::Config;
use crate::control;
use crate::error::ClusterError;
use crate::session::Session;
use crate::state::{Folder, RankState};

const SCRIPT: &str = include_str!("../../agent/metrics.py");
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a node that was lost is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Rates are over this many readings.
const WINDOW: usize = 5;

/// What a thread has read.
enum Reading {
    Sample(usize, Box<Sample>),
    Lost(usize, String),
    Metrics(Option<Figures>),
}

/// The readings of the last seconds.
pub struct Collector {
    folder: Folder,
    inbox: Receiver<Reading>,
    nodes: Vec<Known>,
    metrics: VecDeque<(Instant, Figures)>,
    ranks: VecDeque<(Instant, Vec<RankState>)>,
    interval: Duration,
    floor_us: Option<f64>,
}

struct Known {
    name: String,
    error: Option<String>,
    samples: VecDeque<Sample>,
}

impl Collector {
    /// Starts asking.
    pub fn start(config: &Config, folder: &Folder, interval: Duration) -> Self {
        let (sender, inbox) = channel();
        for index in 0..config.nodes.len() {
            let (config, sender) = (config.clone(), sender.clone());
            thread::spawn(move || watch(&config, index, interval, &sender));
        }
        let known = |node: &crate::config::Node| Known {
            name: node.name.clone(),
            error: None,
            samples: VecDeque::new(),
        };
        Self {
            folder: folder.clone(),
            inbox,
            nodes: config.nodes().map(known).collect(),
            metrics: VecDeque::new(),
            ranks: VecDeque::new(),
            interval,
            floor_us: crate::verify::floor(folder),
        }
    }

    /// Takes in what has come, waiting for the first reading at most `patience`.
    pub fn wait(&mut self, patience: Duration) {
        let mut next = self.inbox.recv_timeout(patience).ok();
        while let Some(reading) = next {
            self.take(reading);
            next = self.inbox.try_recv().ok();
        }
    }

    fn take(&mut self, reading: Reading) {
        match reading {
            Reading::Sample(index, sample) => {
                let node = &mut self.nodes[index];
                node.error = None;
                keep(&mut node.samples, *sample);
            }
            Reading::Lost(index, error) => {
                let node = &mut self.nodes[index];
                node.error = Some(error);
                node.samples.clear();
            }
            Reading::Metrics(Some(figures)) => keep(&mut self.metrics, (Instant::now(), figures)),
            Reading::Metrics(None) => self.metrics.clear(),
        }
    }

    /// What is known now.
    pub fn snapshot(&mut self) -> Snapshot {
        let state = control::current(&self.folder).unwrap_or_default();
        let running = self.folder.is_running();
        let now = Instant::now();
        if self.ranks.back().is_none_or(|(at, _)| now - *at >= self.interval) {
            keep(&mut self.ranks, (now, state.ranks.clone()));
        }
        let earlier = self.ranks.front().filter(|(at, _)| *at < now);
        let collectives = earlier.map_or_else(Vec::new, |(at, ranks)| {
            snapshot::collectives(ranks, &state, (now - *at).as_secs_f64())
        });
        let vllm = match (self.metrics.front(), self.metrics.back()) {
            (Some(before), Some(after)) => {
                Some(Vllm::between(&before.1, &after.1, (after.0 - before.0).as_secs_f64()))
            }
            _ => None,
        };
        let launch = (!state.phase.is_empty()).then(|| Launch {
            phase: state.phase.clone(),
            model: state.model.clone(),
            endpoint: state.endpoint.clone(),
            transport: state.transport.clone(),
        });
        Snapshot {
            launch,
            nodes: self.nodes.iter().map(Known::show).collect(),
            histogram: if running { snapshot::histogram(&state) } else { Vec::new() },
            collectives: if running { collectives } else { Vec::new() },
            floor_us: self.floor_us,
            vllm,
        }
    }
}

impl Known {
    fn show(&self) -> Node {
        let now = match (self.samples.front(), self.samples.back()) {
            (Some(before), Some(after)) if self.samples.len() > 1 => Some(Now::between(before, after)),
            _ => None,
        };
        Node { name: self.name.clone(), error: self.error.clone(), now }
    }
}

fn keep<T>(readings: &mut VecDeque<T>, reading: T) {
    readings.push_back(reading);
    if readings.len() > WINDOW {
        readings.pop_front();
    }
}

/// Asks one node until nobody listens any more.
fn watch(config: &Config, index: usize, interval: Duration, sender: &Sender<Reading>) {
    loop {
        let Err(error) = ask(config, index, interval, sender) else { return };
        if sender.send(Reading::Lost(index, error.to_string())).is_err() {
            return;
        }
        thread::sleep(RETRY);
    }
}

fn ask(
    config: &Config,
    index: usize,
    interval: Duration,
    sender: &Sender<Reading>,
) -> Result<(), ClusterError> {
    let node = config.nodes[index].get_ref();
    let mut session = Session::open(config, node, SCRIPT, &[], None)?;
    let host = match config.host {
        host if host.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        host => host,
    };
    let interfaces = interfaces(config, index, &mut session)?;
    loop {
        let answer = session.ask(&json!({"op": "sample", "interfaces": interfaces}), PATIENCE)?;
        let sample = serde_json::from_value(answer).map_err(|error| ClusterError::Agent {
            node: node.name.clone(),
            what: "sample".to_owned(),
            cause: error.to_string(),
        })?;
        if sender.send(Reading::Sample(index, Box::new(sample))).is_err() {
            return Ok(());
        }
        if index == 0 {
            let question = json!({"op": "metrics", "host": host.to_string(), "port": config.port});
            let figures = session.ask(&question, PATIENCE)?.as_str().and_then(Figures::read);
            if sender.send(Reading::Metrics(figures)).is_err() {
                return Ok(());
            }
        }
        thread::sleep(interval);
    }
}

/// The interfaces worth showing: the one that has the data address, and the one of the default route.
fn interfaces(config: &Config, index: usize, session: &mut Session) -> Result<Vec<String>, ClusterError> {
    let node = config.nodes[index].get_ref();
    let answer = session.ask(&json!({"op": "interfaces", "address": node.address.to_string()}), PATIENCE)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = node.interface.clone().into_iter().collect();
    names.extend(list(&answer).iter().filter_map(|name| name.as_str().map(str::to_owned)));
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    Ok(names)
}
