//! How much memory each rank has, asked of the nodes.

use super::fit::Room;
use crate::config::Config;
use crate::error::ClusterError;
use crate::facts::Memory;
use crate::survey::survey;

/// What each of `ranks` ranks finds. A Strix Halo GPU lives on GTT, main memory that it may map; a card on its own
/// memory. Without a GPU vLLM's CPU platform shares main memory.
fn per_rank(memory: &Memory, ranks: usize) -> u64 {
    let bytes = |bytes: Option<u64>| bytes.unwrap_or_default();
    let mut gpus: Vec<u64> = memory
        .gpus
        .iter()
        .map(|gpu| bytes(gpu.vram_bytes).max(bytes(gpu.gtt_bytes)))
        .filter(|all| *all > 0)
        .collect();
    gpus.sort_unstable();
    match gpus.len() {
        0 => memory.total_bytes / ranks as u64,
        count if ranks <= count => gpus[count - ranks],
        count => gpus[0] * count as u64 / ranks as u64,
    }
}

/// One entry per rank, in the order of the nodes; the first node that cannot be asked is an error.
pub fn rooms(config: &Config) -> Result<Vec<Room>, ClusterError> {
    let mut rooms = Vec::new();
    for (node, surveyed) in config.nodes().zip(survey(config)) {
        let memory = per_rank(&surveyed?.facts.memory, node.ranks);
        rooms.extend((0..node.ranks).map(|_| Room { node: node.name.clone(), memory }));
    }
    Ok(rooms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;

    #[test]
    fn a_rank_has_its_gpus_memory_or_its_share_of_the_machine() {
        let gib = |count: u64| count << 30;
        let with = |gpus: &[(u64, u64)]| {
            let mut memory = recorded::fedora().memory;
            let like = memory.gpus[0].clone();
            memory.total_bytes = gib(125);
            memory.gpus = gpus.iter().map(|_| like.clone()).collect();
            for (gpu, (vram, gtt)) in memory.gpus.iter_mut().zip(gpus) {
                (gpu.vram_bytes, gpu.gtt_bytes) = (Some(gib(*vram)), Some(gib(*gtt)));
            }
            memory
        };
        assert_eq!(per_rank(&with(&[]), 2), gib(125) / 2);
        assert_eq!(per_rank(&with(&[(1, 124)]), 1), gib(124));
        assert_eq!(per_rank(&with(&[(1, 124)]), 2), gib(62));
        assert_eq!(per_rank(&with(&[(16, 8), (48, 8)]), 1), gib(48));
        assert_eq!(per_rank(&with(&[(16, 8), (48, 8)]), 2), gib(16));
    }
}
