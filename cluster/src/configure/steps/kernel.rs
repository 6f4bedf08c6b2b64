//! Kernel arguments: by grubby on Fedora, by a file of grub's own settings folder on Debian and Ubuntu.

use crate::configure::error::ConfigureError;
use crate::configure::step::{Action, Step, Then, words};
use crate::doctor::Subject;
use crate::facts::Facts;
use crate::target;

/// Read by grub-mkconfig after /etc/default/grub.
pub const GRUB_FILE: &str = "/etc/default/grub.d/halo.cfg";

pub const FILES: &[&str] = &[GRUB_FILE];

pub fn plan(subject: &Subject<'_>) -> Result<Option<Step>, ConfigureError> {
    let facts = subject.facts;
    let wanted = target::kernel_arguments(subject.config, facts);
    if wanted.is_empty() {
        return Ok(None);
    }
    if let Some(line) = &facts.system.boot.grubby {
        return Ok(by_grubby(&wanted, line));
    }
    if let (Some(mkconfig), Some(_)) = (&facts.system.boot.mkconfig, &facts.system.boot.grub_default) {
        return Ok(by_file(facts, &wanted, mkconfig));
    }
    let running = facts.system.command_line.as_deref().unwrap_or_default();
    if target::missing(&wanted, running).is_empty() {
        return Ok(None);
    }
    Err(ConfigureError::NoBootLoader { node: subject.node.name.clone(), arguments: wanted.join(" ") })
}

fn title(arguments: &[&str]) -> String {
    format!("start the kernel with {}", arguments.join(" "))
}

fn by_grubby(wanted: &[String], line: &str) -> Option<Step> {
    let missing = target::missing(wanted, line);
    if missing.is_empty() {
        return None;
    }
    let grubby = |flag: &str, arguments: &[String]| format!("--{flag}={}", arguments.join(" "));
    let new: Vec<String> = missing.iter().map(|argument| (*argument).to_owned()).collect();
    // grubby replaces an argument of the same name; an undo brings the replaced one back.
    let replaced = |argument: &&&str| Facts::argument(line, argument.split('=').next().unwrap_or_default());
    let old: Vec<String> = missing
        .iter()
        .filter_map(|argument| {
            let name = argument.split_once('=')?.0;
            replaced(&argument).map(|value| format!("{name}={value}"))
        })
        .collect();
    let all = "--update-kernel=ALL".to_owned();
    let mut undo = vec!["grubby".to_owned(), all.clone(), grubby("remove-args", &new)];
    if !old.is_empty() {
        undo.push(grubby("args", &old));
    }
    let argv = vec!["grubby".to_owned(), all, grubby("args", &new)];
    Some(Step {
        name: "kernel-arguments",
        title: title(&missing),
        actions: vec![Action::Run { argv, undo, undo_may_fail: false, as_user: false }],
        after_undo: Vec::new(),
        then: Some(Then::Reboot),
    })
}

fn by_file(facts: &Facts, wanted: &[String], mkconfig: &str) -> Option<Step> {
    let ours = facts.texts.get(GRUB_FILE).cloned().flatten();
    let settings = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("GRUB_CMDLINE_LINUX"));
        lines
            .filter_map(|line| line.split_once('='))
            .map(|(_, value)| value.replace(['"', '\''], " "))
            .collect::<String>()
    };
    let own = settings(facts.system.boot.grub_default.as_deref().unwrap_or_default());
    // What the user's own file says already is not said again.
    let missing = target::missing(wanted, &own);
    if missing.is_empty() && ours.is_none() {
        return None;
    }
    // The normal entry alone: the recovery entry starts without.
    let text = format!(
        "# Written by halo-cluster configure.\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {}\"\n",
        missing.join(" ")
    );
    let write = Action::write(facts, GRUB_FILE, text)?;
    let refresh = match mkconfig.rsplit('/').next() {
        Some("update-grub") => vec![mkconfig],
        _ => vec![mkconfig, "-o", "/boot/grub/grub.cfg"],
    };
    Some(Step {
        name: "kernel-arguments",
        title: title(&missing),
        actions: vec![write, Action::refresh(&refresh)],
        after_undo: vec![words(&refresh)],
        then: Some(Then::Reboot),
    })
}
