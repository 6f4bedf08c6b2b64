//! Everything that is tried with both ends in one process. Each is a function of the plugin and a context.

mod connections;
mod contract;
mod lifecycle;
mod transfers;
mod tuner;

use std::path::Path;

use crate::Outcome;
use crate::plugin::{Opaque, Plugin, Version};

/// What a case is given.
pub struct Setting<'a> {
    /// The plugin, initialised.
    pub plugin: &'a Plugin,
    /// Its context.
    pub context: Opaque,
    /// Where the library is.
    pub library: &'a Path,
}

/// One case.
pub type Case = fn(&Setting<'_>) -> Outcome;

/// Every case by its name.
pub const ALL: &[(&str, Case)] = &[
    ("properties", contract::properties),
    ("sizes", transfers::sizes),
    ("depth", transfers::depth),
    ("spells", transfers::spells),
    ("groups", transfers::groups),
    ("overtaking", transfers::overtaking),
    ("back-pressure", transfers::back_pressure),
    ("ring", transfers::ring),
    ("storm", connections::storm),
    ("listener-again", connections::listener_again),
    ("late-accept", connections::late_accept),
    ("strangers", connections::strangers),
    ("nothing", contract::nothing),
    ("optional-completion", contract::optional_completion),
    ("truncation", contract::truncation),
    ("arguments", contract::arguments),
    ("shared-memory-handle", contract::shared_memory_handle),
    ("memory-again", contract::memory_again),
    ("close-in-flight", lifecycle::close_in_flight),
    ("two-thread-pairs", lifecycle::two_thread_pairs),
    ("contexts", lifecycle::contexts),
    ("reload", lifecycle::reload),
    ("fork", lifecycle::fork),
    ("flush", contract::flush),
    ("tuner", tuner::tuner),
];

/// Runs one case through one version of the interface.
///
/// # Errors
/// What went wrong, or there is no such case.
pub fn run(name: &str, library: &Path, version: Version) -> Outcome {
    let case =
        ALL.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("there is no case `{name}`"))?.1;
    let plugin = Plugin::load(library, version)?;
    let context = plugin.init()?;
    case(&Setting { plugin: &plugin, context, library })?;
    plugin.finalize(context)?;
    Ok(())
}
