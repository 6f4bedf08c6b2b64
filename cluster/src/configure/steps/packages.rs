//! System packages.

use crate::configure::step::{Action, Step};
use crate::doctor::Subject;
use crate::target;

pub fn plan(Subject { config, facts, .. }: &Subject<'_>) -> Option<Step> {
    let manager = facts.packages.manager.as_deref()?;
    let absent = |name: &&str| !facts.packages.installed.iter().any(|own| own == name);
    let names: Vec<_> =
        target::packages(config, Some(manager)).into_iter().filter(absent).map(str::to_owned).collect();
    (!names.is_empty()).then(|| Step {
        name: "packages",
        title: format!("install {}", names.join(", ")),
        actions: vec![Action::Install { manager: manager.to_owned(), names }],
        after_undo: Vec::new(),
        then: None,
    })
}
