//! What ended, and why: from what nodes, ranks and processes say to one error with a name and a place.

use std::time::{Duration, Instant};

use super::Cluster;
use crate::agent::{Event, Message, Signal};
use crate::error::ClusterError;
use crate::state::RankState;

/// How long the reason may take to follow when its consequence was seen first.
const REASON: Duration = Duration::from_secs(3);
/// Ranks that end within this are told together: agents look once a second, so the first seen need not be the first.
const TOGETHER: Duration = Duration::from_secs(2);

impl Cluster {
    /// Remembers what later reports and errors need.
    pub(super) fn note(&mut self, index: usize, message: &Message) {
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
    pub(super) fn failure(&mut self, index: usize, message: &Message) -> Option<ClusterError> {
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
        // A rank that stopped because of another one says which; of one that was not taken, the others speak.
        let others_said =
            || self.halo_error.as_deref().or_else(|| self.ranks.iter().find_map(RankState::failure));
        let failure = first.failure().or_else(others_said);
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
                Ok(Signal::LogLost(_)) => {}
                Err(_) => break,
            }
        }
        None
    }

    /// The connection to a node ended: before it ever spoke, ssh's words tell why.
    pub(super) fn closed(&self, index: usize, said: String) -> ClusterError {
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

    pub(super) fn silence(&self, limit: Duration) -> Option<ClusterError> {
        let silent = |heard: &Option<Instant>| heard.is_some_and(|heard| heard.elapsed() > limit);
        let index = (0..self.heard.len())
            .find(|index| self.agents[*index].is_some() && silent(&self.heard[*index]))?;
        let cause = format!("no word from it for {} s", limit.as_secs());
        (!self.stopping).then(|| ClusterError::NodeLost { node: self.name(index), cause })
    }

    pub(super) fn no_answer(&self, index: usize, what: &str, timeout: Duration) -> ClusterError {
        ClusterError::NoAnswer { node: self.name(index), what: what.to_owned(), seconds: timeout.as_secs() }
    }
}
