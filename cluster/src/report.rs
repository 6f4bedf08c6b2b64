//! What is told of a launch: the endpoint, and what each rank really uses.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};

use crate::config::Config;
use crate::state::{RankState, State};

/// What the catalogue adds to a launch of a model that is named from it.
pub fn from_catalogue(config: &Config) -> Option<String> {
    let entry = config.entry.as_ref()?;
    let own = config.vllm.args.len();
    let mut words = config.vllm_args();
    words.truncate(words.len() - own);
    let args = shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default();
    let env = entry.env.iter().filter(|(name, _)| !config.env.contains_key(*name));
    let env = env.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let told: Vec<_> = [args, env.join(" ")].into_iter().filter(|text| !text.is_empty()).collect();
    let told = if told.is_empty() { "nothing".to_owned() } else { told.join(" and ") };
    Some(format!("{} of the catalogue: {}, with {told}", entry.name, config.model.get_ref()))
}

/// How many ranks reported collectives of all `world` ranks.
pub fn tensor_parallel_ranks(ranks: &[RankState], world: usize) -> usize {
    let whole = ranks.iter().filter(|rank| rank.alive && rank.world == world as u64 && rank.operations > 0);
    whole.map(|rank| (&rank.node, rank.pid)).collect::<BTreeSet<_>>().len()
}

/// Collectives of all ranks together.
pub fn operations(ranks: &[RankState]) -> u64 {
    ranks.iter().map(|rank| rank.operations).sum()
}

/// Said once, when the model is served.
pub fn ready(state: &State) -> String {
    format!(
        "\nServing {} at {}/v1\n{}\nOpen WebUI: start it with OPENAI_API_BASE_URL={1}/v1 and any OPENAI_API_KEY\n\
         Watch: halo-cluster top\nLogs: {}\nStop: Ctrl-C, or `halo-cluster stop`\n",
        state.model,
        state.endpoint,
        ranks(state),
        state.logs.display()
    )
}

/// One line per rank and communicator.
pub fn ranks(state: &State) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["rank", "node", "group", "transport", "process", "collectives", "bytes"]);
    let mut ranks: Vec<_> = state.ranks.iter().collect();
    ranks.sort_by(|a, b| (&a.group, a.rank).cmp(&(&b.group, b.rank)));
    for rank in ranks {
        let process = if rank.alive { rank.pid.to_string() } else { format!("{} (ended)", rank.pid) };
        table.add_row([
            format!("{}/{}", rank.rank, rank.world),
            rank.node.clone(),
            rank.group.clone(),
            rank.transports.join("+"),
            process,
            rank.operations.to_string(),
            rank.bytes.to_string(),
        ]);
    }
    table.trim_fmt()
}

/// What `status` prints.
pub fn status(state: &State) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["node", "reached by", "data address", "ranks"]);
    for node in &state.nodes {
        table.add_row([node.name.clone(), node.target.clone(), node.address.clone(), node.ranks.to_string()]);
    }
    let endpoint =
        if state.endpoint.is_empty() { String::new() } else { format!(" at {}/v1", state.endpoint) };
    format!(
        "{}: {}{endpoint} (transport {}, process {})\n\n{}\n\n{}\n\nLogs: {}\n",
        state.phase,
        state.model,
        state.transport,
        state.pid,
        table.trim_fmt(),
        ranks(state),
        state.logs.display()
    )
}
