//! Models as a reader sees them.

use std::path::Path;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::catalogue::{Attention, Model};
use super::error::ModelsError;
use super::fit::{Demand, Fit, Room};
use crate::config::Config;

/// Prints any of it as JSON.
pub fn json(value: &(impl Serialize + ?Sized)) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

fn gib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

/// `models list`.
pub fn list(models: &[Model]) -> String {
    let mut table =
        table(["name", "weights GiB", "quantisation", "context", "guide's ranks", "tested", "repository"]);
    for model in models {
        let about = if model.estimated { "~" } else { "" };
        table.add_row([
            model.name.clone(),
            format!("{about}{}", gib(model.weights)),
            model.quantisation.clone(),
            model.context.to_string(),
            ranks(&model.guide),
            model.tested.clone(),
            model.repository.clone(),
        ]);
    }
    format!("{}\n\n~ computed from the number of parameters, not looked up\n", table.trim_fmt())
}

fn ranks(sizes: &[usize]) -> String {
    if sizes.is_empty() {
        return "-".to_owned();
    }
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// `models show`.
pub fn model(model: &Model) -> String {
    let mut table = table(["", ""]);
    let estimated = if model.estimated { " (computed)" } else { "" };
    let args = shlex::try_join(model.args.iter().map(String::as_str)).unwrap_or_default();
    let env = model.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let gated = if model.gated { " (needs HF_TOKEN)" } else { "" };
    for (what, value) in [
        ("repository", format!("{}{gated}", model.repository)),
        ("weights", format!("{} GiB{estimated}, {}", gib(model.weights), model.quantisation)),
        ("context", format!("{} tokens", model.context)),
        ("attention heads", model.heads.to_string()),
        ("keeps per sequence", model.attention.iter().map(kept).collect::<Vec<_>>().join("; ")),
        ("guide's ranks", ranks(&model.guide)),
        ("tested", model.tested.clone()),
        ("vLLM's arguments", or_none(args)),
        ("environment", or_none(env)),
    ] {
        table.add_row([what.to_owned(), value]);
    }
    let rows = table.trim_fmt();
    // The header is empty.
    let rows = rows.lines().skip(1).collect::<Vec<_>>().join("\n");
    format!("{}\n{rows}\n", model.name)
}

fn kept(attention: &Attention) -> String {
    match attention {
        Attention::Full { layers, kv_heads, head_dim } => {
            format!("{layers} layers with {kv_heads} key-value heads of {head_dim}")
        }
        Attention::Window { layers, kv_heads, head_dim, window } => {
            format!("{layers} layers with {kv_heads} key-value heads of {head_dim}, last {window} tokens")
        }
        Attention::Token { bytes } => format!("{bytes} bytes per token on every rank"),
        Attention::State { layers, bytes } => format!("{layers} layers with {bytes} bytes"),
    }
}

/// `models fit`.
pub fn fits(answers: &[Fit], rooms: &[Room], demand: Demand) -> String {
    let mut table = table([
        "model",
        "weights/rank",
        "cache/rank",
        "one sequence",
        "sequences",
        "longest context",
        "verdict",
    ]);
    for answer in answers {
        table.add_row([
            answer.model.clone(),
            gib(answer.weights),
            gib(answer.cache),
            gib(answer.per_sequence),
            answer.most_sequences.to_string(),
            answer.longest_context.to_string(),
            answer.reason.as_ref().map_or("fits".to_owned(), |reason| format!("no: {reason}")),
        ]);
    }
    let places: Vec<_> = rooms.iter().map(|room| format!("{} {} GiB", room.node, gib(room.memory))).collect();
    format!(
        "{} rank(s): {}; vLLM may take {:.0} %\n\n{}\n\nGiB; {} sequence(s) of {} tokens asked; {} GiB of every rank \
         kept for vLLM itself (room, not a measurement)\n",
        rooms.len(),
        places.join(", "),
        demand.utilisation * 100.0,
        table.trim_fmt(),
        demand.sequences,
        demand.context,
        gib(super::fit::RUNTIME)
    )
}

/// An answer about one model is also an exit status.
pub fn verdict(answer: &Fit) -> Result<(), ModelsError> {
    let Some(reason) = answer.reason.clone() else { return Ok(()) };
    let help = if answer.longest_context > 0 {
        format!(
            "with {} sequence(s) it holds {} tokens: --max-model-len {}; more ranks hold more",
            answer.sequences, answer.longest_context, answer.longest_context
        )
    } else {
        "add nodes, raise the GPU's share of the memory (GTT size), or choose a smaller quantisation"
            .to_owned()
    };
    Err(ModelsError::DoesNotFit {
        model: answer.model.clone(),
        ranks: answer.ranks,
        context: answer.context,
        sequences: answer.sequences,
        reason,
        help,
    })
}

/// The fraction of the memory that the configuration lets vLLM take, if it says so.
pub fn utilisation(config: &Config) -> Option<f64> {
    let args = config.vllm_args();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let flag = "--gpu-memory-utilization";
    let after = words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1).copied());
    let joined = || words.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
    after.or_else(joined)?.parse().ok().filter(|fraction| (0.0..=1.0).contains(fraction))
}

/// Said when a model is on all nodes.
pub fn downloaded(folder: &Path, name: Option<&String>, nodes: usize) -> String {
    let folder = folder.display().to_string();
    let model = name.unwrap_or(&folder);
    format!("{folder} is on {nodes} node(s)\nlaunch it: halo-cluster launch CONFIG --model {model}")
}
