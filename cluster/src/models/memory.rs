//! How much memory each rank has, asked of the nodes.

use std::time::Duration;

use serde::Deserialize;

use super::fit::Room;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::error::ClusterError;
use crate::plan::Job;
use crate::state::Folder;

const SOURCE: &str = include_str!("../../agent/memory.py");
const PATIENCE: Duration = Duration::from_secs(30);

/// What a node says.
#[derive(Debug, Clone, Deserialize)]
struct Memory {
    memory: u64,
    gpus: Vec<Gpu>,
}

#[derive(Debug, Clone, Deserialize)]
struct Gpu {
    vram: u64,
    gtt: u64,
}

impl Memory {
    /// What each of `ranks` ranks finds. A Strix Halo GPU lives on GTT, main memory that it may map; a card on its own
    /// memory. Without a GPU vLLM's CPU platform shares main memory.
    fn per_rank(&self, ranks: usize) -> u64 {
        let mut gpus: Vec<u64> = self.gpus.iter().map(|gpu| gpu.vram.max(gpu.gtt)).collect();
        gpus.sort_unstable();
        match gpus.len() {
            0 => self.memory / ranks as u64,
            count if ranks <= count => gpus[count - ranks],
            count => gpus[0] * count as u64 / ranks as u64,
        }
    }
}

/// One entry per rank, in the order of the nodes.
pub fn rooms(config: &Config, folder: &Folder) -> Result<Vec<Room>, ClusterError> {
    Cluster::visit(config, folder, |cluster| {
        let model = config.model.get_ref();
        let job = |node| Job::python(node, "memory", SOURCE, &[model, "/"]);
        let answers = cluster.run_each((0..config.nodes.len()).map(job).collect(), PATIENCE, |_, _| {})?;
        let mut rooms = Vec::new();
        for (node, answer) in config.nodes().zip(answers) {
            let memory: Memory = answer.answer().ok_or_else(|| ClusterError::Agent {
                node: node.name.clone(),
                what: "memory".to_owned(),
                cause: answer.last_line().to_owned(),
            })?;
            let per_rank = memory.per_rank(node.ranks);
            rooms.extend((0..node.ranks).map(|_| Room { node: node.name.clone(), memory: per_rank }));
        }
        Ok(rooms)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_has_its_gpus_memory_or_its_share_of_the_machine() {
        let gib = |count: u64| count << 30;
        let with = |gpus: &[(u64, u64)]| Memory {
            memory: gib(125),
            gpus: gpus.iter().map(|(vram, gtt)| Gpu { vram: gib(*vram), gtt: gib(*gtt) }).collect(),
        };
        assert_eq!(with(&[]).per_rank(2), gib(125) / 2);
        assert_eq!(with(&[(1, 124)]).per_rank(1), gib(124));
        assert_eq!(with(&[(1, 124)]).per_rank(2), gib(62));
        assert_eq!(with(&[(16, 8), (48, 8)]).per_rank(1), gib(48));
        assert_eq!(with(&[(16, 8), (48, 8)]).per_rank(2), gib(16));
    }
}
