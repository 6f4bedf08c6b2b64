//! The end of a launch: everything is stopped, and what an agent could not stop is swept.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Cluster;
use crate::agent::{Agent, Message};

impl Cluster {
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
    pub(super) fn ask_to_stop(&mut self, grace: Duration) {
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
