//! The memory sum: weights, what a sequence keeps, and what is left on every rank.

use serde::Serialize;

use super::catalogue::{Attention, Model};

/// What vLLM takes besides weights and cache on every rank: activations of its profiling run, captured graphs, RCCL's
/// and halo's buffers. vLLM measures it when it starts; this is room for it, not a measurement.
pub const RUNTIME: u64 = 3 << 30;

/// vLLM's own default of `--gpu-memory-utilization` (release 0.32).
pub const UTILISATION: f64 = 0.92;

/// One rank's place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Room {
    /// The node it is on.
    pub node: String,
    /// Bytes of memory that its GPU can address.
    pub memory: u64,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Tokens of one sequence.
    pub context: u64,
    /// Sequences at once.
    pub sequences: u64,
    /// The fraction of the memory that vLLM may take.
    pub utilisation: f64,
}

/// The answer, all sizes in bytes per rank.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    pub model: String,
    pub ranks: usize,
    pub context: u64,
    pub sequences: u64,
    /// The rank with the least room decides.
    pub node: String,
    pub available: u64,
    pub weights: u64,
    pub runtime: u64,
    /// What is left for the cache.
    pub cache: u64,
    /// What one sequence of that context takes.
    pub per_sequence: u64,
    /// Sequences of that context that find room at once.
    pub most_sequences: u64,
    /// The longest context for that many sequences, within what the model was made for.
    pub longest_context: u64,
    /// Why it does not fit; none if it does.
    pub reason: Option<String>,
}

/// Bytes that `model` keeps on one of `ranks` ranks for a sequence of `tokens`, at `width` bytes per number.
pub fn cache_bytes(model: &Model, ranks: u64, tokens: u64, width: u64) -> u64 {
    // A rank has its share of the heads, and one head at least.
    let heads = |all: u64| all.div_ceil(ranks);
    let pairs = |layers: u64, kv_heads: u64, head_dim: u64, tokens: u64| {
        2 * u128::from(layers)
            * u128::from(heads(kv_heads))
            * u128::from(head_dim)
            * u128::from(tokens * width)
    };
    let sum: u128 = model
        .attention
        .iter()
        .map(|attention| match *attention {
            Attention::Full { layers, kv_heads, head_dim } => pairs(layers, kv_heads, head_dim, tokens),
            Attention::Window { layers, kv_heads, head_dim, window } => {
                pairs(layers, kv_heads, head_dim, tokens.min(window))
            }
            Attention::Token { bytes } => u128::from(bytes) * u128::from(tokens),
            Attention::State { layers, bytes } => u128::from(layers) * u128::from(bytes.div_ceil(ranks)),
        })
        .sum();
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// Bytes per number of the cache: what the arguments say, else two.
fn width(model: &Model) -> u64 {
    let kind = model.args.iter().skip_while(|word| *word != "--kv-cache-dtype").nth(1);
    if kind.is_some_and(|kind| kind.starts_with("fp8")) { 1 } else { 2 }
}

/// Whether `model` fits into `rooms`, one per rank.
pub fn fit(model: &Model, rooms: &[Room], demand: Demand) -> Fit {
    let ranks = rooms.len() as u64;
    let least = rooms.iter().min_by_key(|room| room.memory);
    let memory = least.map_or(0, |room| room.memory);
    let node = least.map(|room| room.node.clone()).unwrap_or_default();
    let available = (memory as f64 * demand.utilisation) as u64;
    let weights = model.weights.div_ceil(ranks.max(1));
    let cache = available.saturating_sub(weights).saturating_sub(RUNTIME);
    let bytes = |tokens: u64| cache_bytes(model, ranks.max(1), tokens, width(model));
    let per_sequence = bytes(demand.context);
    let holds = |tokens: u64| bytes(tokens).checked_mul(demand.sequences).is_some_and(|all| all <= cache);
    // The cache grows with the context, so the longest that fits is found by halving.
    let (mut fits, mut too_long) = (0, model.context + 1);
    while cache > 0 && too_long - fits > 1 {
        let middle = fits + (too_long - fits) / 2;
        if holds(middle) { fits = middle } else { too_long = middle }
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let reason = if ranks == 0 || !model.heads.is_multiple_of(ranks) {
        Some(format!("{ranks} ranks do not divide its {} attention heads", model.heads))
    } else if demand.context > model.context {
        Some(format!("it was made for {} tokens of context", model.context))
    } else if cache == 0 {
        Some(format!(
            "weights ({:.1} GiB per rank) and {:.0} GiB for vLLM exceed the {:.1} GiB that it may take on {node}",
            gib(weights),
            gib(RUNTIME),
            gib(available)
        ))
    } else if !holds(demand.context) {
        let wanted = per_sequence.saturating_mul(demand.sequences);
        Some(format!("{:.1} GiB of cache wanted, {:.1} GiB left on {node}", gib(wanted), gib(cache)))
    } else {
        None
    };
    Fit {
        model: model.name.clone(),
        ranks: rooms.len(),
        context: demand.context,
        sequences: demand.sequences,
        node,
        available,
        weights,
        runtime: RUNTIME,
        cache,
        per_sequence,
        most_sequences: cache.checked_div(per_sequence).unwrap_or(0),
        longest_context: fits,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::catalogue::Catalogue;
    use super::*;

    fn model(name: &str) -> Model {
        Catalogue::open(None).unwrap().find(name).unwrap().clone()
    }

    fn rooms(count: usize, gib: u64) -> Vec<Room> {
        (0..count).map(|index| Room { node: format!("n{index}"), memory: gib << 30 }).collect()
    }

    fn asked(context: u64, sequences: u64) -> Demand {
        Demand { context, sequences, utilisation: UTILISATION }
    }

    #[test]
    fn a_llama_keeps_128_kib_per_token_and_half_of_it_on_two_ranks() {
        // 2 (keys and values) x 32 layers x 8 heads x 128 x 2 bytes
        assert_eq!(cache_bytes(&model("llama-3.1-8b"), 1, 1, 2), 131_072);
        assert_eq!(cache_bytes(&model("llama-3.1-8b"), 2, 1000, 2), 65_536_000);
        // More ranks than heads: each keeps one.
        assert_eq!(cache_bytes(&model("llama-3.1-8b"), 16, 1, 2), 16_384);
    }

    #[test]
    fn windows_and_states_stop_growing() {
        let gpt = model("gpt-oss-20b");
        let step = |from: u64| cache_bytes(&gpt, 1, from + 1, 2) - cache_bytes(&gpt, 1, from, 2);
        assert_eq!(step(10), 2 * step(1000));
        let qwen = model("qwen3.6-35b");
        assert_eq!(cache_bytes(&qwen, 1, 0, 2), 30 * 2_200_000);
    }

    #[test]
    fn the_large_models_need_two_machines_with_124_gib() {
        let large = ["qwen3.5-122b-awq8", "minimax-m2.7-awq4", "minimax-m2.7-strix", "deepseek-v4-flash"];
        for name in large {
            let one = fit(&model(name), &rooms(1, 124), asked(16_384, 1));
            assert!(one.reason.unwrap().starts_with("weights"), "{name}");
            let two = fit(&model(name), &rooms(2, 124), asked(16_384, 4));
            assert_eq!(two.reason, None, "{name}");
        }
        assert_eq!(fit(&model("gpt-oss-120b"), &rooms(1, 124), asked(16_384, 4)).reason, None);
    }

    #[test]
    fn the_smallest_node_decides_and_is_named() {
        let mut places = rooms(2, 124);
        places[1].memory = 12 << 30;
        let answer = fit(&model("llama-3.1-8b"), &places, asked(131_072, 1));
        assert_eq!(answer.reason.unwrap(), "8.0 GiB of cache wanted, 0.6 GiB left on n1");
        assert_eq!(answer.most_sequences, 0);
        assert!((1..131_072).contains(&answer.longest_context));
    }

    #[test]
    fn what_no_memory_can_mend_is_said() {
        let reason = |ranks, context| {
            fit(&model("gemma-4-26b"), &rooms(ranks, 500), asked(context, 1)).reason.unwrap()
        };
        assert_eq!(reason(3, 1), "3 ranks do not divide its 16 attention heads");
        assert_eq!(reason(2, 300_000), "it was made for 262144 tokens of context");
    }

    proptest! {
        #[test]
        fn the_longest_context_fits_and_one_more_does_not(gib in 1u64..300, ranks in 1usize..9, sequences in 1u64..100) {
            for model in Catalogue::open(None).unwrap().models {
                let places = rooms(ranks, gib);
                let answer = fit(&model, &places, asked(1, sequences));
                let longest = answer.longest_context;
                if !model.heads.is_multiple_of(ranks as u64) || longest == 0 { continue }
                prop_assert_eq!(fit(&model, &places, asked(longest, sequences)).reason, None);
                prop_assert!(fit(&model, &places, asked(longest + 1, sequences)).reason.is_some());
            }
        }
    }
}
