//! Everything that is tried with both ends in one process. Each is a function of the plugin and a context.

mod connections;
mod contract;
mod dma_buf;
mod joined;
mod lifecycle;
mod properties;
mod transfers;
mod tuner;

use std::path::Path;

use crate::Outcome;
use crate::plugin::{Opaque, Plugin, Refused, Version};

/// What a case is given.
pub struct Setting<'a> {
    /// The plugin, initialised.
    pub plugin: &'a Plugin,
    /// Its context.
    pub context: Opaque,
    /// The device to use.
    pub device: i32,
    /// Where the library is.
    pub library: &'a Path,
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub enum Case {
    /// It is given the plugin, initialised.
    With(fn(&Setting<'_>) -> Outcome),
    /// It loads the library itself, when it wants.
    Alone(fn(&Path, Version) -> Outcome),
}

use Case::{Alone, With};

/// Every case by its name.
pub const ALL: &[(&str, Case)] = &[
    ("properties", With(properties::properties)),
    ("sizes", With(transfers::sizes)),
    ("depth", With(transfers::depth)),
    ("spells", With(transfers::spells)),
    ("groups", With(transfers::groups)),
    ("overtaking", With(transfers::overtaking)),
    ("back-pressure", With(transfers::back_pressure)),
    ("ring", With(transfers::ring)),
    ("storm", With(connections::storm)),
    ("listener-again", With(connections::listener_again)),
    ("close-listen", With(connections::close_listen)),
    ("late-accept", With(connections::late_accept)),
    ("strangers", With(connections::strangers)),
    ("nothing", With(contract::nothing)),
    ("optional-completion", With(contract::optional_completion)),
    ("truncation", With(contract::truncation)),
    ("arguments", With(contract::arguments)),
    ("shared-memory-handle", With(contract::shared_memory_handle)),
    ("memory-again", With(contract::memory_again)),
    ("close-in-flight", With(lifecycle::close_in_flight)),
    ("two-thread-pairs", With(lifecycle::two_thread_pairs)),
    ("service-and-progress", With(lifecycle::service_and_progress)),
    ("contexts", With(lifecycle::contexts)),
    ("reload", Alone(lifecycle::reload)),
    ("fork", With(lifecycle::fork)),
    ("dma-buf", With(dma_buf::dma_buf)),
    ("flush", With(contract::flush)),
    ("joined", With(joined::joined)),
    ("tuner", With(tuner::tuner)),
    ("tuner-refused", With(tuner::tuner_refused)),
];

/// Runs one case through one version of the interface; with `join`, over all devices as one.
///
/// # Errors
/// What went wrong, or there is no such case.
pub fn run(name: &str, library: &Path, version: Version, join: bool) -> Outcome {
    let case =
        ALL.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("there is no case `{name}`"))?.1;
    let case = match case {
        Alone(case) => return case(library, version),
        With(case) => case,
    };
    let plugin = Plugin::load(library, version)?;
    let context = plugin.init()?;
    let device = if join { plugin.join_all()? } else { 0 };
    case(&Setting { plugin: &plugin, context, device, library })?;
    plugin.finalize(context)?;
    Ok(())
}

/// An error unless it `holds`.
fn expect(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned().into()) }
}

/// Whether the answer is this code.
fn refused<T>(result: Result<T, Refused>, code: i32) -> bool {
    result.is_err_and(|refused| refused.code == code)
}
