//! What vLLM's output tells of a model that is being loaded: how far each node is, and which phase this is.

use crate::config::Config;
use crate::progress::Phase;

/// The stages of a load, in their order, and words of vLLM's log by which each shows that it is over. A release that
/// words its log otherwise makes one long phase of it; the end of all is told by the server itself, not by its log.
const STAGES: [(&str, &[&str]); 2] = [
    (
        "load the weights",
        &["Available KV cache memory", "GPU KV cache size", "# CPU blocks", "# GPU blocks", "KV cache size"],
    ),
    ("warm up", &["Application startup complete"]),
];

/// A load under way.
#[derive(Debug)]
pub struct Loading {
    addresses: Vec<String>,
    names: Vec<String>,
    /// Per node, how much of the weights has been read, in percent.
    weights: Vec<u64>,
    stage: usize,
    phase: Option<Phase>,
}

impl Loading {
    pub fn start(config: &Config) -> Self {
        Self {
            addresses: config.nodes().map(|node| node.address.to_string()).collect(),
            names: config.nodes().map(|node| node.name.clone()).collect(),
            weights: vec![0; config.nodes.len()],
            stage: 0,
            phase: Some(Phase::start(format!("{} on {} ranks", STAGES[0].0, config.world()))),
        }
    }

    /// A line of vLLM or one of its workers, printed on `node`. Ray's driver prints for all nodes and names each.
    pub fn heard(&mut self, node: usize, line: &str) {
        let named = line.split("ip=").nth(1).and_then(|rest| rest.split([',', ')']).next());
        let node = named.and_then(|ip| self.addresses.iter().position(|own| own == ip)).unwrap_or(node);
        if let Some(percent) = percent(line) {
            self.weights[node] = percent.max(self.weights[node]);
            self.show();
        }
        if line.contains("Loading weights took") || line.contains("Model loading took") {
            self.weights[node] = 100;
            self.show();
        }
        if STAGES[self.stage].1.iter().any(|words| line.contains(words)) {
            self.next();
        }
    }

    fn show(&mut self) {
        let (sum, per_node): (u64, _) = (self.weights.iter().sum(), self.per_node());
        if let Some(phase) = self.phase.as_mut().filter(|_| self.stage == 0) {
            phase.part(sum, 100 * self.weights.len() as u64, &per_node);
        }
    }

    fn per_node(&self) -> String {
        let each = self.names.iter().zip(&self.weights).map(|(name, percent)| format!("{name} {percent} %"));
        each.collect::<Vec<_>>().join(", ")
    }

    fn next(&mut self) {
        if self.stage + 1 < STAGES.len() {
            if let Some(phase) = self.phase.take() {
                phase.done("");
            }
            self.stage += 1;
            self.phase = Some(Phase::start(STAGES[self.stage].0));
        }
    }

    /// The server answers: all stages are over.
    pub fn done(mut self) {
        if let Some(phase) = self.phase.take() {
            phase.done("");
        }
    }
}

/// `50` of "Loading safetensors checkpoint shards:  50% Completed | 1/2 [...]".
fn percent(line: &str) -> Option<u64> {
    let (before, _) = line.split_once("% Completed")?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn shards_are_counted_for_the_node_that_reads_them() {
        let text = "model = \"/m\"\nnodes = [{name = \"a\", local = true, address = \"10.0.0.1\"}, \
                    {name = \"b\", ssh = \"b\", address = \"10.0.0.2\"}]\n";
        let mut loading = Loading::start(&Config::parse(text, Path::new("c.toml")).unwrap());
        loading.heard(
            0,
            "(RayWorkerProc pid=12, ip=10.0.0.2) Loading safetensors checkpoint shards:  50% Completed | 1/2",
        );
        loading.heard(0, "Loading safetensors checkpoint shards: 100% Completed | 2/2 [00:01<00:00]");
        assert_eq!(loading.per_node(), "a 100 %, b 50 %");
        loading.heard(1, "INFO Loading weights took 0.12 seconds");
        assert_eq!((loading.per_node().as_str(), loading.stage), ("a 100 %, b 100 %", 0));
        loading.heard(0, "INFO GPU KV cache size: 1,000 tokens");
        loading.heard(0, "INFO GPU KV cache size: 1,000 tokens");
        assert_eq!(loading.stage, 1);
        loading.heard(0, "Application startup complete.");
        assert_eq!(loading.stage, 1, "the last stage ends when the server answers");
        loading.done();
    }

    #[test]
    fn other_percentages_are_no_shards() {
        assert_eq!(percent("GPU memory 92% used"), None);
        assert_eq!(percent("999% Completed"), None);
        assert_eq!(percent("shards:   0% Completed | 0/4"), Some(0));
    }
}
